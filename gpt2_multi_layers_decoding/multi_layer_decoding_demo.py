"""What every layer of GPT-2 would have said, token by token, beside what the model wrote.

Prints the prompt, one row a layer with its greedy tokens (those that differ from the last layer's in red,
or in [brackets] without colour), a legend, and the layers at which the text settles.

    python multi_layer_decoding_demo.py
    python multi_layer_decoding_demo.py "The capital of France is" --context own
    python multi_layer_decoding_demo.py --model gpt2-medium --layers 1,12,18-24 --max-new-tokens 40
    echo "5 + 8 =" | python multi_layer_decoding_demo.py --json > rows.json
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from layer_decoding.arguments import Parser, add_model_options, add_output_options, layer_list, read_prompt
from layer_decoding.command import load, notice, run
from layer_decoding.live import LiveView, ProgressLine, Silence, Watch
from layer_decoding.results import LayerDecoding, partial_decoding
from layer_decoding.terminal import Terminal, screen_columns, terminal_of

if TYPE_CHECKING:
    from layer_decoding.loading import LoadedModel

PURPOSE = "What each layer of GPT-2 would have said, beside what the model wrote."
EXAMPLES = """
python multi_layer_decoding_demo.py
python multi_layer_decoding_demo.py "The capital of France is" --context own
python multi_layer_decoding_demo.py --model gpt2-medium --layers 1,12,18-24
echo "5 + 8 =" | python multi_layer_decoding_demo.py --json > rows.json
"""


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    add_model_options(parser)
    group = parser.add_argument_group("layers")
    group.add_argument(
        "--context",
        choices=["shared", "own"],
        default="shared",
        help="shared: all read the text the last layer writes; own: each continues its own (shared)",
    )
    group.add_argument("--layers", type=layer_list, metavar="LIST", help="rows to show, such as 1,6,9-12 (all)")
    output = add_output_options(parser)
    output.add_argument("--no-live", action="store_true", help="no rows growing in place while decoding")
    return parser


def show(args: Namespace) -> None:
    """Load, decode, print."""
    prompt = read_prompt(args.prompt)
    loaded, prompt_ids = load(args, prompt)

    from layer_decoding.pieces import Pieces
    from layer_decoding.rows import render_decoding, render_rows

    pieces, terminal = Pieces(loaded.tokenizer), terminal_of(sys.stdout, args.color, args.width)

    layer_count = loaded.model.config.num_hidden_layers

    def frame(rows: dict[int, list[int]]) -> list[str]:
        partial = partial_decoding(args.context, layer_count, prompt_ids, args.max_new_tokens, rows)
        return render_rows(partial, prompt, pieces, terminal)

    decoding, interruption = decode(args, loaded, prompt_ids, watch(args, terminal, frame))
    if decoding is not None and not args.json:
        print("\n".join(render_decoding(decoding, prompt, pieces, terminal)))
    if interruption is not None:
        raise interruption
    if decoding is not None and args.json:
        from layer_decoding.documents import greedy_document, to_json

        print(to_json(greedy_document(decoding, prompt, loaded, pieces)))


def watch(args: Namespace, terminal: Terminal, frame: Callable[[dict[int, list[int]]], list[str]]) -> Watch:
    """Who is told of each step: nobody, a progress line, or the rows growing on the screen."""
    if args.json or args.quiet:
        return Silence()
    if args.no_live or not sys.stdout.isatty() or (terminal.width or 0) > screen_columns():
        return ProgressLine(args.max_new_tokens)
    return LiveView(sys.stdout, frame, args.max_new_tokens)


def decode(
    args: Namespace, loaded: "LoadedModel", prompt_ids: list[int], watcher: Watch
) -> tuple[LayerDecoding | None, KeyboardInterrupt | None]:
    """The decoding; after Ctrl-C what was finished of it, and the interruption."""
    from layer_decoding.greedy import DecodingInterrupted, decode_layers

    started = time.perf_counter()
    with closing(watcher):
        try:
            decoding = decode_layers(
                loaded.model,
                prompt_ids,
                args.max_new_tokens,
                context=args.context,
                layers=args.layers,
                measures=args.json,
                on_step=watcher.on_step,
            )
        except DecodingInterrupted as stop:
            return stop.result, stop
    seconds = time.perf_counter() - started
    written = len(decoding.final_row.ids)
    notice(args, f"{written} tokens through {decoding.layer_count} layers in {seconds:.2f} s.")
    return decoding, None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
