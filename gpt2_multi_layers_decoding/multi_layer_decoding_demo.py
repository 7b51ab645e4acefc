"""What every layer of GPT-2 would have said, token by token, beside what the model wrote.

Prints the prompt, one row a layer with its greedy tokens (those that differ from the last layer's in red,
or in [brackets] without colour), a legend, and the layers at which the text settles. Other views look closer:
a table of layers and steps with how sure each was, the likeliest tokens at every step, some tokens through the layers.

    python multi_layer_decoding_demo.py
    python multi_layer_decoding_demo.py "The capital of France is" --context own
    python multi_layer_decoding_demo.py --model gpt2-medium --layers 1,12,18-24 --max-new-tokens 40
    python multi_layer_decoding_demo.py --view table --measure entropy
    python multi_layer_decoding_demo.py --view track --track " girl" --track " boy" --step 4
    python multi_layer_decoding_demo.py --view steps --save page.html --save table.csv
    echo "5 + 8 =" | python multi_layer_decoding_demo.py --json > rows.json
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from layer_decoding.cli.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_save_option,
    layer_list,
    whole_number,
)
from layer_decoding.cli.progress import LiveRows, NoProgress, Progress, ProgressLine
from layer_decoding.cli.running import load_prompted, notice, run
from layer_decoding.errors import UsageError
from layer_decoding.files.saving import Writers, check_targets, save
from layer_decoding.models.sizes import layer_count
from layer_decoding.results.greedy import LayerDecoding, partial_decoding
from layer_decoding.terminal.pieces import Pieces, escape
from layer_decoding.terminal.theme import Terminal, screen_columns, terminal_of
from layer_decoding.views.rows import render_decoding, render_rows
from layer_decoding.views.steps import render_steps
from layer_decoding.views.table import render_table
from layer_decoding.views.track import (
    Tracked,
    check_step,
    is_another_inside,
    leaders,
    render_track,
    tracked_at,
    word_id,
)

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel

PURPOSE = "What each layer of GPT-2 would have said, beside what the model wrote."
EXAMPLES = """
python multi_layer_decoding_demo.py
python multi_layer_decoding_demo.py "The capital of France is" --context own
python multi_layer_decoding_demo.py --view table --measure entropy
python multi_layer_decoding_demo.py --view track --track " girl" --step 4
echo "5 + 8 =" | python multi_layer_decoding_demo.py --json > rows.json
"""
FORMATS = (".html", ".csv", ".json")
NOT_GIVEN = ()  # what --layers is without a value; None is all of them
UNSEEN = "in own context the last layer does not read the other layers' texts"


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("layers")
    group.add_argument(
        "--context",
        choices=["shared", "own"],
        default="shared",
        help="shared: all read the text the last layer writes; own: each continues its own (shared)",
    )
    group.add_argument(
        "--layers", type=layer_list, default=NOT_GIVEN, metavar="LIST", help="rows to show, such as 1,6,9-12 (all)"
    )
    group = parser.add_argument_group("view")
    group.add_argument(
        "--view",
        choices=["rows", "table", "steps", "track"],
        default="rows",
        help="rows: a text a layer; table: a cell a layer and step; steps: the likeliest tokens of each;"
        " track: some tokens through the layers (rows)",
    )
    group.add_argument(
        "--measure",
        choices=["probability", "entropy", "kl", "rank"],
        help="in the table, a number in the place of the token",
    )
    group.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="WORD",
        help="track this token; repeat for more (those on top anywhere)",
    )
    group.add_argument("--step", type=whole_number, metavar="T", help="the step to track at (1, after the prompt)")
    output = add_output_options(parser)
    output.add_argument("--no-live", action="store_true", help="no rows growing in place while decoding")
    add_save_option(output, FORMATS)
    return parser


def check_view(args: Namespace) -> None:
    """Refuse what cannot be meant together, before a model is loaded."""
    if args.measure and args.view != "table":
        raise UsageError(f"--measure is for --view table, the view is {args.view}; leave it out or add --view table.")
    if (args.track or args.step) and args.view != "track":
        option = "--track" if args.track else "--step"
        raise UsageError(f"{option} is for --view track, the view is {args.view}; leave it out or add --view track.")
    if args.view == "track" and args.context == "own":
        raise UsageError(f"Tracking compares the layers at one step of one text, and {UNSEEN}; use --context shared.")
    if args.measure in ("kl", "rank") and args.context == "own":
        raise UsageError(
            f"Measure {args.measure} compares each layer with the last, and {UNSEEN}; use --context shared."
        )
    if "" in args.track:
        raise UsageError("The word to track is empty; give one, such as --track ' the'.")
    if args.step and args.step > args.max_new_tokens:
        raise UsageError(
            f"Step {args.step} is beyond the {args.max_new_tokens} tokens to write; lower it or raise --max-new-tokens."
        )


def show(args: Namespace) -> None:
    """Load, decode, save, print."""
    check_view(args)
    check_targets(args.save, FORMATS)
    loaded, prompt, prompt_ids = load_prompted(args)
    pieces, terminal = Pieces(loaded.tokenizer), terminal_of(sys.stdout, args.color, args.width)
    words = [tracked_token(args, word, pieces) for word in args.track]

    def frame(rows: dict[int, list[int]]) -> list[str]:
        partial = partial_decoding(args.context, layer_count(loaded.model), prompt_ids, args.max_new_tokens, rows)
        return render_rows(partial, prompt, pieces, terminal)

    decoding, interruption = decode(args, loaded, prompt_ids, words, watch(args, terminal, frame))
    if decoding is not None and interruption is None and (args.json or args.save):
        write_files(args, decoding, prompt, loaded, pieces)
    if decoding is not None and not args.json and not (interruption and args.view == "track"):
        now = terminal_of(sys.stdout, args.color, args.width)  # the screen may have changed its size
        print("\n".join(render(args, decoding, prompt, loaded, pieces, now)))
    if interruption is not None:
        raise interruption


def tracked_token(args: Namespace, word: str, pieces: Pieces) -> int:
    """The token of a word to track; where a space before it would make it another, a line says so."""
    token = word_id(word, pieces)
    if is_another_inside(word, pieces):
        notice(args, f"Tracking '{escape(word)}'; with a space before it, ' {escape(word)}', it is another token.")
    return token


def watch(args: Namespace, terminal: Terminal, frame: Callable[[dict[int, list[int]]], list[str]]) -> Progress:
    """Who is told of each step: nobody, a progress line, or the rows growing on the screen."""
    if args.json or args.quiet:
        return NoProgress()
    is_screen = sys.stdout.isatty() and (terminal.width or 0) <= screen_columns()
    if args.view != "rows" or args.no_live or not is_screen:
        return ProgressLine(new_tokens(args))
    return LiveRows(sys.stdout, frame, args.max_new_tokens)


def new_tokens(args: Namespace) -> int:
    """How many tokens to write: what comes after the step that is tracked only a file would show."""
    only_tracked = args.view == "track" and not args.save and not args.json
    tokens: int = (args.step or 1) if only_tracked else args.max_new_tokens
    return tokens


def decode(
    args: Namespace, loaded: "LoadedModel", prompt_ids: list[int], words: list[int], watcher: Progress
) -> tuple[LayerDecoding | None, KeyboardInterrupt | None]:
    """The decoding; after Ctrl-C what was finished of it, and the interruption."""
    from layer_decoding.decoding.greedy import DecodingInterrupted, decode_layers

    started = time.perf_counter()
    with closing(watcher):
        try:
            decoding = decode_layers(
                loaded.model,
                prompt_ids,
                new_tokens(args),
                context=args.context,
                layers=args.layers or None,
                measures=args.json or bool(args.save) or args.view in ("table", "steps"),
                track=words,
                on_step=watcher.on_step,
            )
        except DecodingInterrupted as stop:
            return stop.result, stop
    seconds = time.perf_counter() - started
    written = len(decoding.final_row.ids)
    notice(args, f"{written} token{'s' * (written > 1)} through {decoding.layer_count} layers in {seconds:.2f} s.")
    return decoding, None


def render(
    args: Namespace, decoding: LayerDecoding, prompt: str, loaded: "LoadedModel", pieces: Pieces, terminal: Terminal
) -> list[str]:
    """The answer in the view that was asked for, a string a line."""
    layers = [decoding.layer_count] if args.layers == NOT_GIVEN else args.layers
    views: dict[str, Callable[[], list[str]]] = {
        "rows": lambda: render_decoding(decoding, prompt, pieces, terminal),
        "table": lambda: render_table(decoding, prompt, pieces, terminal, args.measure),
        "steps": lambda: render_steps(decoding, prompt, pieces, terminal, layers),
        "track": lambda: render_track(look(loaded, decoding, args.step or 1), prompt, pieces, terminal),
    }
    return views[args.view]()


def look(loaded: "LoadedModel", decoding: LayerDecoding, step: int) -> Tracked:
    """The words tracked at one step or, if there are none, the tokens on top at any layer.

    Which those are is known only after the step, so that the text up to it is read once more, in one pass.
    """
    from layer_decoding.decoding.greedy import decode_layers

    check_step(decoding, step)
    written = decoding.final_row.ids[: step - 1]
    if decoding.tracked_ids:
        return tracked_at(decoding, step, written)
    layers = [row.layer for row in decoding.rows]
    again = decode_layers(
        loaded.model, [*decoding.prompt_ids, *written], 1, layers=layers, track=leaders(decoding, step)
    )
    return tracked_at(again, 1, written)


def write_files(args: Namespace, decoding: LayerDecoding, prompt: str, loaded: "LoadedModel", pieces: Pieces) -> None:
    """The result in every form that was asked for; what is printed of JSON is what a file would hold."""
    from layer_decoding.files.documents import greedy_document, to_json
    from layer_decoding.files.page import render_page
    from layer_decoding.files.tables import to_csv

    document = greedy_document(decoding, prompt, loaded, pieces)
    writers: Writers = {
        ".html": lambda: render_page(decoding, prompt, document, pieces).encode(),
        ".csv": lambda: to_csv(decoding, pieces).encode(),
        ".json": lambda: f"{to_json(document)}\n".encode(),
    }
    for path in args.save:
        save(path, writers)
        notice(args, f"Saved {escape(str(path))}.")
    if args.json:
        print(to_json(document))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
