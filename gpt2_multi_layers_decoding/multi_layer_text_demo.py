"""What every layer of GPT-2 predicts for a given text: token by token in a passage, and on average over all of it.

Nothing is written: the text is read, and at each place every layer says what it expects next. Prints a passage with
each layer's predictions under its tokens (those that differ from the last layer's in red, or in [brackets] without
colour; a star where the prediction is the text's own token), then a table: how often each layer agrees with the last
one and with the text, its mean entropy, KL divergence and surprise, its perplexity.

    python multi_layer_text_demo.py tale.txt
    python multi_layer_text_demo.py tale.txt --passage 200-260 --layers 1,6,9-12
    python multi_layer_text_demo.py tale.txt --passage 200-220 --view table --measure surprise
    python multi_layer_text_demo.py tale.txt --save layers.csv --save passage.html
    curl -s https://example.org/tale.txt | python multi_layer_text_demo.py -
    torchrun --nproc-per-node 4 multi_layer_text_demo.py corpus.txt
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import argparse
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from layer_decoding.cli.input import STANDARD_INPUT, Text, read_text
from layer_decoding.cli.options import (
    Parser,
    add_layers_option,
    add_lenses_option,
    add_model_group,
    add_output_options,
    add_save_option,
    rows_asked,
    whole_number,
)
from layer_decoding.cli.progress import OnStep
from layer_decoding.cli.running import deliver, drawn, load, progress_of, run, watched
from layer_decoding.cli.torchrun import Place, among_processes, check_shared
from layer_decoding.cli.viewing import add_view_options, check_view, token_against, tracked_tokens
from layer_decoding.errors import UsageError
from layer_decoding.files.documents import text_document, why_document
from layer_decoding.files.saving import check_targets
from layer_decoding.files.tables import text_table
from layer_decoding.files.writers import FORMATS, text_writers
from layer_decoding.models.sizes import layer_count, select_layers
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.results.text import Passage, TextMeasures
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import shorten_left
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.text import render_comparison, render_passage, render_summaries
from layer_decoding.views.view import Again, View, render_under

if TYPE_CHECKING:
    from layer_decoding.decoding.text.processes import Processes
    from layer_decoding.lens.fitted.linear import FittedLens

PURPOSE = "What each layer of GPT-2 predicts for a text, token by token and on average."
EXAMPLES = """
python multi_layer_text_demo.py tale.txt
python multi_layer_text_demo.py tale.txt --passage 200-260 --layers 1,6,9-12
python multi_layer_text_demo.py tale.txt --passage 200-220 --view table
head -c 20000 tale.txt | python multi_layer_text_demo.py - --save layers.csv
"""
DEFAULT_PASSAGE = range(40)
BEFORE_CELLS = 60  # of the text before a passage


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [FILE] [OPTION ...]"
    parser.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text to read, - for stdin")
    group = add_model_group(parser)
    group.add_argument(
        "--window", type=whole_number, metavar="N", help="tokens read at once (the context, at most 2048)"
    )
    group = parser.add_argument_group("what to show")
    add_layers_option(group, "rows to show, such as 1,6,9-12 (all)")
    add_lenses_option(group)
    group.add_argument(
        "--passage",
        type=token_range,
        default=DEFAULT_PASSAGE,
        metavar="FIRST-LAST",
        help="tokens of the text to show (1-40)",
    )
    add_view_options(group, BY_OPTION, text="the passage")
    add_save_option(add_output_options(parser), FORMATS)
    return parser


def token_range(text: str) -> range:
    """The value of --passage: '200-239', counted from 1, as positions counted from 0.

    >>> token_range("200-239")
    range(199, 239)
    """
    first, _, last = (side.strip() for side in text.partition("-"))
    if not all(side.isascii() and side.isdecimal() for side in (first, last)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of tokens such as 1-40")
    if not 1 <= int(first) <= int(last):
        raise argparse.ArgumentTypeError(f"{text!r} holds no token, the first of a text has number 1")
    return range(int(first) - 1, int(last))


def show(args: Namespace) -> None:
    """Read, load, measure, print, save; of several processes each measures its share, and one does the rest."""
    with among_processes(args) as place:
        check_view(args)
        check_targets(args.save, FORMATS)
        check_shared(args.file, place)
        read(args, read_text(args.file), place)


def read(args: Namespace, text: Text, place: Place | None) -> None:
    """Load, measure, print, save."""
    processes = None if place is None else joined(place)
    loaded = load(args)

    from layer_decoding.decoding.text.along import read_passage, track_step
    from layer_decoding.decoding.text.means import measure_text
    from layer_decoding.decoding.why import explain, explain_text
    from layer_decoding.lens.fitted.file import named_lens
    from layer_decoding.models.prompts import encode_prompt
    from layer_decoding.models.texts import encode_text

    pieces = Pieces(loaded.tokenizer)
    prefix = encode_prompt(loaded.tokenizer, "")  # what the tokenizer puts before any text: nothing, for GPT-2
    ids = encode_text(loaded.tokenizer, text, prefix)
    rows = rows_asked(args, layer_count(loaded.model))
    layers = rows or None
    track, against = tracked_tokens(args, pieces), token_against(args, pieces)
    lens, *others = [named_lens(name, loaded) for name in args.lens]
    along = args.view is not None or any(path.suffix.lower() == ".html" for path in args.save)

    def read(through: "FittedLens | None") -> Passage:
        return read_passage(
            loaded.model, ids, args.passage, layers=layers, window=args.window, measures=along, lens=through
        )

    passage = read(lens)

    def measured(through: "FittedLens | None", on_step: OnStep) -> TextMeasures:
        return measure_text(
            loaded.model,
            ids,
            layers=layers,
            window=args.window,
            on_step=on_step if place is None else partial(place.look, on_step),
            lens=through,
            bias=bool(others),
            processes=processes,
        )

    measures, stop = watched(args, progress_of(args, len(ids)), partial(measured, lens), in_seconds)
    compared = [] if measures is None or not others else [measures]
    for other in others if stop is None else []:
        more, stop = watched(args, progress_of(args, len(ids)), partial(measured, other), in_seconds)
        compared += [] if more is None else [more]
    if place is not None and not place.is_first:
        if stop is not None:
            raise stop
        return

    def lines(terminal: Terminal) -> list[str]:
        if args.view is None:
            shown = render_passage(
                passage, select_layers(layers, layer_count(loaded.model)), len(ids), pieces, terminal
            )
        else:
            view = View(args.view, args.measure, args.step or 1, track, rows, against, args.heads)
            shown = []
            for heading, decoding in parts_of(passage):
                before = shorten_left(pieces.text(decoding.prompt_ids), BEFORE_CELLS, terminal.glyphs.dots)
                track_it = partial(track_step, loaded.model, decoding, lens=lens)
                again = Again(track_it, partial(explain, loaded.model, decoding))
                shown += [*render_under(heading, view, decoding, before, pieces, terminal, again), ""]
        if measures is None:
            return shown
        means = render_comparison(compared, terminal) if compared else render_summaries(measures, terminal)
        return [*shown, *means]

    def document() -> dict[str, Any]:
        assert measures is not None  # an interrupted text is not written
        if args.view == "why":
            why = explain(loaded.model, only_part(passage), args.step or 1, against, args.heads)
            return why_document(why, before, loaded, pieces)
        return text_document(measures, passage, args.file or STANDARD_INPUT, loaded, pieces, compared)

    before = pieces.text(passage.stretches[0][1].prompt_ids) if passage.stretches else ""

    def whys() -> Sequence[Why]:
        return explain_text(loaded.model, only_part(passage), args.step or 1, against, args.heads)

    def through_others() -> list[LayerDecoding]:
        return [only_part(read(other)) for other in others]

    writers = text_writers(lambda: only_part(passage), before, document, pieces, whys, through_others)
    writers = {**writers, ".svg": lambda: drawn(args, lines)}
    if args.view is None and measures is not None:
        writers = {**writers, ".csv": lambda: text_table(*(compared or [measures])).encode()}
    deliver(args, lines, writers, stop)


def joined(place: Place) -> "Processes":
    """The processes that read the text with this one, all of them there."""
    from layer_decoding.decoding.text.processes import Processes

    return Processes(place.store, place.rank, place.count)


def parts_of(passage: Passage) -> list[tuple[str, LayerDecoding]]:
    """The parts of a passage that lie in one window each, with what to call them."""
    parts = []
    for start, decoding in passage.stretches:
        first, last = passage.first + start, passage.first + start + len(decoding.text_ids) - 1
        parts.append((f"Token {first:,}" if first == last else f"Tokens {first:,} to {last:,}", decoding))
    return parts


def only_part(passage: Passage) -> LayerDecoding:
    """The passage as one text.

    Raises:
        UsageError: it has several parts, or none.
    """
    if len(passage.stretches) != 1:
        last = passage.first + len(passage.ids) - 1
        raise UsageError(
            f"Tokens {passage.first:,} to {last:,} are not read in one piece, since a window begins among them, and a"
            " file holds one; choose a passage inside a window, or a larger window.",
            settings=["passage", "window"],
        )
    return passage.stretches[0][1]


def in_seconds(measures: TextMeasures, seconds: float) -> str:
    """How long it took."""
    return f"{measures.token_count:,} tokens through {measures.layer_count} layers in {seconds:.2f} s."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
