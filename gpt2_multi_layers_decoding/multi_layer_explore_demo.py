"""Walk over the layers and tokens of a text, take another word, see what would have come.

A full-screen terminal program: layers down, steps across, a cursor, and beside the board the likeliest tokens of the
cell under it. The model writes token by token, or any layer's token is taken in its place; one taken in the middle of
the text begins a branch. `?` lists the keys. On leaving, the text and the command that prints it stay on the screen.
Needs the package textual; --script plays keys without a screen and without it.

    python multi_layer_explore_demo.py
    python multi_layer_explore_demo.py "The capital of France is" --model gpt2-medium
    python multi_layer_explore_demo.py --script "space space up enter"
    python multi_layer_explore_demo.py --script "g home right 2 g b" --width 100
    python multi_layer_explore_demo.py --script "g" --json > board.json
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from layer_decoding.cli.commands import as_called
from layer_decoding.cli.input import read_prompt
from layer_decoding.cli.options import Parser, add_layers_option, add_model_options, add_output_options, rows_asked
from layer_decoding.cli.running import encoded, load, notice, prompt_of, run
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.exploring.keys import read_script
from layer_decoding.exploring.player import Player, play
from layer_decoding.exploring.printed import board_lines, farewell_lines
from layer_decoding.files.documents import to_json
from layer_decoding.layers import LINEAR_LENS, PLAIN_LENS
from layer_decoding.models.sizes import layer_count
from layer_decoding.terminal.theme import full_screen_of, terminal_of

if TYPE_CHECKING:
    from layer_decoding.lens.fitted.linear import FittedLens

PURPOSE = "Walk over the layers and tokens of a text, and take another word."
EXAMPLES = """
python multi_layer_explore_demo.py
python multi_layer_explore_demo.py "The capital of France is" --model gpt2
python multi_layer_explore_demo.py --script "space space up enter"
python multi_layer_explore_demo.py --script "g" --json > board.json
"""


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("what to show")
    add_layers_option(group, "rows to show, such as 1,6,9-12 (all)")
    group.add_argument("--script", metavar="KEYS", help="press keys, such as 'space up enter', and print the board")
    add_output_options(parser)
    return parser


def show(args: Namespace) -> None:
    """Play the script, or open the screen."""
    if args.script is not None:
        print_played(args, read_script(args.script))
        return
    if args.json:
        raise UsageError("JSON is of a board that keys led to; say which.", settings=["script"])
    check_screen()
    prompt = read_prompt(args.prompt)
    from layer_decoding.exploring.app import ExplorerApp

    app = ExplorerApp(partial(ready, args, prompt), full_screen_of(sys.stdout, args.color), args.width)
    app.run()
    if app.player is not None and app.board is not None:
        terminal = terminal_of(sys.stdout, args.color, args.width)
        print("\n".join(farewell_lines(app.player, app.board, terminal)), flush=True)
    if app.failure is not None:
        raise app.failure


def print_played(args: Namespace, keys: list[str]) -> None:
    """The board that keys lead to, as lines or as the greedy script's document."""
    player = ready(args, prompt_of(args), partial(notice, args))
    board = player.board()
    play(player, board, keys, partial(notice, args))
    if args.json:
        print(to_json(player.document(board.texts.branch)), flush=True)
    else:
        print("\n".join(board_lines(player, board, terminal_of(sys.stdout, args.color, args.width))), flush=True)


def ready(args: Namespace, prompt: str, tell: Callable[[str], None]) -> Player:
    """The model loaded and the prompt read; notices are told."""
    loaded = load(args, tell)

    from layer_decoding.decoding.explorer import Explorer
    from layer_decoding.lens.fitted.file import named_lens

    lenses: dict[str, FittedLens | None] = {PLAIN_LENS: None}
    layers = rows_asked(args, layer_count(loaded.model)) or None
    with suppress(LayerDecodingError):  # no lens has been fitted to this model
        linear = named_lens(LINEAR_LENS, loaded)
        if linear is not None and not {*(layers or ())} - {*linear.layers, linear.layer_count}:
            lenses[LINEAR_LENS] = linear

    def begin(another: str) -> tuple[str, Explorer]:
        text, ids = encoded(args, loaded, another, tell)
        return text, Explorer(loaded.model, ids, layers=layers, lenses=lenses)

    return Player(loaded, begin, prompt, args.max_new_tokens, model_options(args), as_called)


def model_options(args: Namespace) -> tuple[str, ...]:
    """What of the command line decides the numbers, to be typed again."""
    words = ["--chat"] * args.chat + ["--truncate-prompt"] * args.truncate_prompt + ["--sublayers"] * args.sublayers
    for name in ("model", "device", "device_map", "dtype"):
        if getattr(args, name) not in (None, "auto") or (name == "device_map" and args.device_map):
            words += [f"--{name.replace('_', '-')}", getattr(args, name)]
    layers = "all" if args.layers is None else ",".join(map(str, args.layers))
    return (*words, "--layers", layers) if layers else tuple(words)


def check_screen() -> None:
    """Refuse to open a screen where there is none, or nothing to open it with.

    Raises:
        UsageError: standard input, output or error is no terminal, or one that can only write line by line.
        LayerDecodingError: Textual is not installed.
    """
    streams = {"input": sys.stdin, "output": sys.stdout, "error": sys.stderr}
    other = [name for name, stream in streams.items() if stream is None or not stream.isatty()]
    if other or os.environ.get("TERM") == "dumb":
        what = f"standard {other[0]} is none" if other else "this one is dumb"
        raise UsageError(
            f"The explorer needs a terminal to itself, and {what}; start it in one, or play keys without a screen.",
            settings=["script"],
        )
    if find_spec("textual") is None:
        raise LayerDecodingError(
            "The explorer needs the package textual, which is not installed; run pip install textual."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
