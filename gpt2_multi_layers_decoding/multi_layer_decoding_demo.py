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

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from layer_decoding.cli.options import (
    Parser,
    add_layers_option,
    add_lenses_option,
    add_model_options,
    add_output_options,
    add_save_option,
    rows_asked,
)
from layer_decoding.cli.progress import Draw, LiveRows, OnStep, Progress
from layer_decoding.cli.running import deliver, drawn, load_prompted, progress_of, run, watched
from layer_decoding.cli.viewing import add_view_options, check_view, token_against, tracked_tokens
from layer_decoding.errors import UsageError
from layer_decoding.files.documents import greedy_document, why_document
from layer_decoding.files.saving import check_targets
from layer_decoding.files.writers import FORMATS, text_writers
from layer_decoding.layers import Layer
from layer_decoding.models.sizes import layer_count
from layer_decoding.results.greedy import LayerDecoding, partial_decoding
from layer_decoding.results.measures import BY_OPTION, MEASURES
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import MINIMUM_WIDTH, Terminal, redraws, terminal_of
from layer_decoding.views.rows import render_growing, render_stages
from layer_decoding.views.view import Again, View, render_view

PURPOSE = "What each layer of GPT-2 would have said, beside what the model wrote."
EXAMPLES = """
python multi_layer_decoding_demo.py
python multi_layer_decoding_demo.py "The capital of France is" --context own
python multi_layer_decoding_demo.py --view table --measure entropy
python multi_layer_decoding_demo.py --view track --track " girl" --step 4
echo "5 + 8 =" | python multi_layer_decoding_demo.py --json > rows.json
"""


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("what to show")
    group.add_argument(
        "--context",
        choices=["shared", "own"],
        default="shared",
        help="shared: all read the text the last layer writes; own: each continues its own (shared)",
    )
    add_layers_option(group, "rows to show, such as 1,6,9-12 (all)")
    add_lenses_option(group)
    add_view_options(group, BY_OPTION, "rows", text="the text")
    output = add_output_options(parser)
    output.add_argument("--no-live", action="store_true", help="no rows growing in place, here or in an .svg")
    add_save_option(output, FORMATS)
    return parser


def show(args: Namespace) -> None:
    """Load, decode, print, save."""
    check_view(args, [measure.option for measure in MEASURES if measure.needs_shared_text])
    check_lenses(args)
    check_targets(args.save, FORMATS)
    loaded, prompt, prompt_ids = load_prompted(args)

    from layer_decoding.decoding.greedy import decode_layers
    from layer_decoding.decoding.text.along import read_layers, track_step
    from layer_decoding.decoding.why import explain, explain_text
    from layer_decoding.lens.fitted.file import named_lens

    pieces, terminal = Pieces(loaded.tokenizer), terminal_of(sys.stdout, args.color, args.width)
    layers = rows_asked(args, layer_count(loaded.model))
    track, against = tracked_tokens(args, pieces), token_against(args, pieces)
    lens, *others = [named_lens(name, loaded) for name in args.lens]

    def frame(rows: dict[Layer, list[int]], size: os.terminal_size) -> list[str]:
        partial_one = partial_decoding(args.context, layer_count(loaded.model), prompt_ids, args.max_new_tokens, rows)
        now = replace(terminal, width=max(MINIMUM_WIDTH, min(args.width or size.columns, size.columns)))
        return render_growing(partial_one, prompt, pieces, now, size.lines - 1)

    def work(on_step: OnStep) -> LayerDecoding:
        measures = args.json or bool(args.save) or args.view in ("table", "steps", "text")
        return decode_layers(
            loaded.model,
            prompt_ids,
            new_tokens(args),
            context=args.context,
            layers=layers or None,
            measures=measures,
            track=track,
            on_step=on_step,
            lens=lens,
        )

    decoding, stop = watched(args, choose_progress(args, frame), work, in_seconds)
    if decoding is None:
        raise stop or AssertionError  # nothing was finished

    def lines(terminal: Terminal) -> list[str]:
        if stop is not None and args.view in ("track", "why"):
            return []
        view = View(args.view, args.measure, args.step or 1, track, layers, against, args.heads)
        track_it = partial(track_step, loaded.model, decoding, lens=lens)
        again = Again(track_it, partial(explain, loaded.model, decoding))
        return render_view(view, decoding, prompt, pieces, terminal, again)

    def grown(terminal: Terminal, most: int) -> list[list[str]]:
        return render_stages(decoding, prompt, pieces, terminal, most)

    def document() -> dict[str, Any]:
        if args.view == "why":
            why = explain(loaded.model, decoding, args.step or 1, against, args.heads)
            return why_document(why, prompt, loaded, pieces)
        return greedy_document(decoding, prompt, loaded, pieces)

    def through_others() -> list[LayerDecoding]:
        ids = [*prompt_ids, *decoding.text_ids]
        along = range(len(prompt_ids), len(ids))
        return [read_layers(loaded.model, ids, along, layers=layers or None, lens=other) for other in others]

    whys = partial(explain_text, loaded.model, decoding, args.step or 1, against, args.heads)
    writers = text_writers(lambda: decoding, prompt, document, pieces, whys, through_others)
    moves = args.view == "rows" and not args.no_live
    deliver(args, lines, {**writers, ".svg": lambda: drawn(args, lines, grown if moves else None)}, stop)


def check_lenses(args: Namespace) -> None:
    """Refuse several lenses where nothing would show them, before a model is loaded."""
    if len(args.lens) == 1:
        return
    if args.context == "own":
        raise UsageError("In own context each lens leads to texts of its own; use --context shared to compare lenses.")
    if not any(path.suffix.lower() == ".html" for path in args.save):
        raise UsageError("Several lenses of one text are on its page alone; add --save page.html or name one lens.")


def choose_progress(args: Namespace, frame: Draw) -> Progress:
    """Who is told of each step: nobody, a progress line, or the rows growing on the screen."""
    if args.json or args.quiet or args.view != "rows" or args.no_live or not redraws(sys.stdout):
        return progress_of(args, new_tokens(args))
    return LiveRows(sys.stdout, frame)


def new_tokens(args: Namespace) -> int:
    """How many tokens to write: what comes after the step that is looked at only a file would show."""
    only_tracked = not args.save and (args.view == "why" or (args.view == "track" and not args.json))
    tokens: int = (args.step or 1) if only_tracked else args.max_new_tokens
    return tokens


def in_seconds(decoding: LayerDecoding, seconds: float) -> str:
    """How long it took."""
    written = len(decoding.text_ids)
    return f"{written} token{'s' * (written > 1)} through {decoding.layer_count} layers in {seconds:.2f} s."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
