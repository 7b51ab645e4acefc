"""What every layer of GPT-2 predicts for a given text: token by token in a passage, and on average over all of it.

Nothing is written: the text is read, and at each place every layer says what it expects next. Prints a passage with
each layer's predictions under its tokens (those that differ from the last layer's in red, or in [brackets] without
colour; a star where the prediction is the text's own token), then a table: how often each layer agrees with the last
one and with the text, its mean entropy and KL divergence, its perplexity.

    python multi_layer_text_demo.py tale.txt
    python multi_layer_text_demo.py tale.txt --passage 200-260 --layers 1,6,9-12
    python multi_layer_text_demo.py tale.txt --save layers.csv --save layers.json
    curl -s https://example.org/tale.txt | python multi_layer_text_demo.py -
"""

import argparse
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from layer_decoding.cli.input import STANDARD_INPUT, read_text
from layer_decoding.cli.options import (
    Parser,
    add_model_group,
    add_output_options,
    add_save_option,
    layer_list,
    whole_number,
)
from layer_decoding.cli.progress import NoProgress, Progress, ProgressLine
from layer_decoding.cli.running import load, notice, run
from layer_decoding.files.saving import check_targets, save
from layer_decoding.models.prompts import encode_text
from layer_decoding.results.text import TextMeasures
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel
    from layer_decoding.terminal.pieces import Pieces

PURPOSE = "What each layer of GPT-2 predicts for a text, token by token and on average."
EXAMPLES = """
python multi_layer_text_demo.py tale.txt
python multi_layer_text_demo.py tale.txt --passage 200-260 --layers 1,6,9-12
head -c 20000 tale.txt | python multi_layer_text_demo.py - --save layers.csv
"""
FORMATS = (".json", ".csv")
DEFAULT_PASSAGE = range(40)


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.add_argument("file", nargs="?", metavar="FILE", help="UTF-8 text to read, - for stdin")
    group = add_model_group(parser)
    group.add_argument(
        "--window", type=whole_number, metavar="N", help="tokens read at once (the context, at most 2048)"
    )
    group = parser.add_argument_group("what to show")
    group.add_argument("--layers", type=layer_list, metavar="LIST", help="rows to show, such as 1,6,9-12 (all)")
    group.add_argument(
        "--passage",
        type=token_range,
        default=DEFAULT_PASSAGE,
        metavar="FIRST-LAST",
        help="tokens of the text to show (1-40)",
    )
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
    """Read, load, measure, print, save."""
    check_targets(args.save, FORMATS)
    text = read_text(args.file)
    loaded = load(args)

    from layer_decoding.models.prompts import encode_prompt
    from layer_decoding.terminal.pieces import Pieces
    from layer_decoding.views.text import render_text

    pieces = Pieces(loaded.tokenizer)
    prefix = encode_prompt(loaded.tokenizer, "")  # what the tokenizer puts before any text: nothing, for GPT-2
    measures, interruption = measure(args, loaded, encode_text(loaded.tokenizer, text, prefix))
    if measures is not None and not args.json:
        print("\n".join(render_text(measures, pieces, terminal_of(sys.stdout, args.color, args.width))))
    if interruption is not None:
        raise interruption
    if measures is not None and (args.json or args.save):
        put_out(args, measures, loaded, pieces)


def measure(
    args: Namespace, loaded: "LoadedModel", ids: Sequence[int]
) -> tuple[TextMeasures | None, KeyboardInterrupt | None]:
    """The measures of a text; after Ctrl-C those of what was read, and the interruption."""
    from layer_decoding.decoding.text import TextInterrupted, measure_text

    started = time.perf_counter()
    watcher: Progress = NoProgress() if args.json or args.quiet else ProgressLine(len(ids))
    with closing(watcher):
        try:
            measures = measure_text(
                loaded.model,
                ids,
                layers=args.layers,
                passage=args.passage,
                window=args.window,
                on_tokens=lambda read: watcher.on_step(read, {}),
            )
        except TextInterrupted as stop:
            return stop.result, stop
    seconds = time.perf_counter() - started
    notice(args, f"{len(ids):,} tokens through {measures.layer_count} layers in {seconds:.2f} s.")
    return measures, None


def put_out(args: Namespace, measures: TextMeasures, loaded: "LoadedModel", pieces: "Pieces") -> None:
    """The document on stdout, and the files."""
    from layer_decoding.files.documents import text_document, to_json
    from layer_decoding.files.tables import text_table

    document = to_json(text_document(measures, args.file or STANDARD_INPUT, loaded, pieces))
    if args.json:
        print(document)
    writers = {".json": lambda: f"{document}\n".encode(), ".csv": lambda: text_table(measures).encode()}
    for path in args.save:
        save(path, writers)
        notice(args, f"Saved {path}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
