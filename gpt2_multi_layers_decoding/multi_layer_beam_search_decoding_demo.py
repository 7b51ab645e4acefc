"""The best continuations that beam search finds, what greedy decoding finds, and what each layer would have found.

Prints the prompt and one row a hypothesis, best first, with its score and log-probability (tokens that are not in
the best one in red, or in [brackets] without colour); greedy beside them; on request the search on the model cut
off after other layers, the search step by step as a tree, and the layers' own choices along the best hypothesis.

    python multi_layer_beam_search_decoding_demo.py
    python multi_layer_beam_search_decoding_demo.py "Once upon a time" --num-beams 4 --max-new-tokens 10 --trace
    python multi_layer_beam_search_decoding_demo.py --no-repeat-ngram-size 2 --layers 6,9,12 --lens
    python multi_layer_beam_search_decoding_demo.py --trace --quiet --save search.json
"""

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from layer_decoding.cli.options import Parser, add_model_options, add_output_options, add_save_option, layer_list
from layer_decoding.cli.progress import ProgressLine
from layer_decoding.cli.running import load_prompted, notice, run
from layer_decoding.files.saving import check_targets, save
from layer_decoding.results.beam import BeamSearch, BeamSettings
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel

PURPOSE = "The best continuations that beam search finds, with greedy beside them."
EXAMPLES = """
python multi_layer_beam_search_decoding_demo.py
python multi_layer_beam_search_decoding_demo.py --num-beams 4 --trace
python multi_layer_beam_search_decoding_demo.py "5 + 8 =" --layers 6 --lens
"""
FORMATS = (".json",)


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--num-beams", type=int, default=5, metavar="N", help="texts kept at every step (5)")
    group.add_argument("--num-return-sequences", type=int, metavar="N", help="texts to show (as many as beams)")
    group.add_argument(
        "--length-penalty",
        type=float,
        default=1.0,
        metavar="X",
        help="score is log p / length**X (1.0)",
    )
    group.add_argument(
        "--no-repeat-ngram-size", type=int, default=0, metavar="N", help="no N tokens in a row come twice (0: off)"
    )
    group = parser.add_argument_group("what else to show")
    group.add_argument("--trace", action="store_true", help="the search step by step, as a tree")
    group.add_argument(
        "--layers",
        type=layer_list,
        default=[],
        metavar="LIST",
        help="the same on the model cut there: 6,9,12, or all",
    )
    group.add_argument("--lens", action="store_true", help="each layer's top tokens along the best text")
    output = add_output_options(parser)
    add_save_option(output, FORMATS)
    return parser


def show(args: Namespace) -> None:
    """Load, search, print, save."""
    returned = args.num_beams if args.num_return_sequences is None else args.num_return_sequences
    settings = BeamSettings(
        args.max_new_tokens, args.num_beams, returned, args.length_penalty, args.no_repeat_ngram_size
    )
    settings.check()  # before a model is loaded
    check_targets(args.save, FORMATS)
    loaded, prompt, prompt_ids = load_prompted(args)

    from layer_decoding.files.documents import beam_document, to_json
    from layer_decoding.terminal.pieces import Pieces
    from layer_decoding.views.beam import render_search

    pieces = Pieces(loaded.tokenizer)
    search, interruption = find(args, settings, loaded, prompt_ids)
    if search is not None and not args.json:
        terminal = terminal_of(sys.stdout, args.color, args.width)
        print("\n".join(render_search(search, prompt, pieces, terminal)))
    if interruption is not None:
        raise interruption
    if search is not None and (args.json or args.save):
        document = to_json(beam_document(search, prompt, loaded, pieces))
        if args.json:
            print(document)
        for path in args.save:
            save(path, {".json": lambda: f"{document}\n".encode()})
            notice(args, f"Saved {path}.")


def find(
    args: Namespace, settings: BeamSettings, loaded: "LoadedModel", prompt_ids: list[int]
) -> tuple[BeamSearch | None, KeyboardInterrupt | None]:
    """The search; after Ctrl-C what was found until then, and the interruption."""
    from layer_decoding.decoding.beam import SearchInterrupted, beam_search

    started = time.perf_counter()
    with closing(Progress(silent=args.json or args.quiet)) as progress:
        try:
            search = beam_search(
                loaded.model,
                prompt_ids,
                settings.max_new_tokens,
                num_beams=settings.num_beams,
                num_return_sequences=settings.num_return_sequences,
                length_penalty=settings.length_penalty,
                no_repeat_ngram_size=settings.no_repeat_ngram_size,
                layers=args.layers,
                trace=args.trace,
                lens=args.lens,
                on_step=progress.on_step,
            )
        except SearchInterrupted as stop:
            return stop.result, stop
    seconds = time.perf_counter() - started
    notice(args, f"{settings.num_beams} beams of up to {settings.max_new_tokens} tokens in {seconds:.2f} s.")
    return search, None


class Progress:
    """A progress line over all searches of a run, made when the first step tells how many there will be."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.line: ProgressLine | None = None

    def on_step(self, step: int, total: int) -> None:
        """Move the line."""
        if not self.silent:
            self.line = self.line or ProgressLine(total)
            self.line.on_step(step, {})

    def close(self) -> None:
        """Take the line away."""
        if self.line is not None:
            self.line.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
