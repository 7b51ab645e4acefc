"""The best continuations that beam search finds, what greedy decoding finds, and what each layer would have found.

Prints the prompt and one row a hypothesis, best first, with its score and log-probability (tokens that are not in
the best one in red, or in [brackets] without colour); greedy beside them; on request the search on the model cut
off after other layers, the search step by step as a tree, and every layer along the best hypothesis.

    python multi_layer_beam_search_decoding_demo.py
    python multi_layer_beam_search_decoding_demo.py "Once upon a time" --num-beams 4 --max-new-tokens 10 --trace
    python multi_layer_beam_search_decoding_demo.py --no-repeat-ngram-size 2 --layers 6,9,12 --view rows
    python multi_layer_beam_search_decoding_demo.py --trace --quiet --save search.json --save best.html
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

from argparse import Namespace
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from layer_decoding.cli.options import (
    Parser,
    add_layers_option,
    add_lens_option,
    add_model_options,
    add_output_options,
    add_save_option,
    rows_asked,
)
from layer_decoding.cli.progress import OnStep
from layer_decoding.cli.running import deliver, drawn, load_prompted, progress_of, run, watched
from layer_decoding.cli.viewing import add_view_options, check_view, token_against, tracked_tokens
from layer_decoding.files.documents import beam_document, why_document
from layer_decoding.files.saving import check_targets
from layer_decoding.files.writers import FORMATS, text_writers
from layer_decoding.models.sizes import layer_count, select_cuts
from layer_decoding.results.beam import BeamSearch, BeamSettings
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.beam import render_search
from layer_decoding.views.view import Again, View, render_under

PURPOSE = "The best continuations that beam search finds, with greedy beside them."
EXAMPLES = """
python multi_layer_beam_search_decoding_demo.py --num-beams 4 --trace
python multi_layer_beam_search_decoding_demo.py --layers 6 --view rows
"""


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
    add_layers_option(group, "the same on the model cut there: 6,9,12, or all (none)")
    add_lens_option(group)
    add_view_options(group, BY_OPTION, text="rank 1")
    add_save_option(add_output_options(parser), FORMATS)
    return parser


def show(args: Namespace) -> None:
    """Load, search, print, save."""
    settings = settings_of(args)
    settings.check()  # before a model is loaded
    check_view(args)
    check_targets(args.save, FORMATS)
    loaded, prompt, prompt_ids = load_prompted(args)

    from layer_decoding.decoding.beam import beam_search
    from layer_decoding.decoding.text.along import read_layers, track_step
    from layer_decoding.decoding.why import explain, explain_text
    from layer_decoding.lens.fitted.file import named_lens

    pieces = Pieces(loaded.tokenizer)
    track, against = tracked_tokens(args, pieces), token_against(args, pieces)
    lens = named_lens(args.lens, loaded)
    rows = rows_asked(args, layer_count(loaded.model))

    def work(on_step: OnStep) -> BeamSearch:
        return beam_search(
            loaded.model,
            prompt_ids,
            settings.max_new_tokens,
            num_beams=settings.num_beams,
            num_return_sequences=settings.num_return_sequences,
            length_penalty=settings.length_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
            layers=args.layers,
            trace=args.trace,
            on_step=on_step,
            lens=lens,
        )

    others = len(select_cuts(args.layers, layer_count(loaded.model))) - 1 if args.layers != [] else 0
    total = settings.steps(others)
    search, stop = watched(args, progress_of(args, total), work, partial(in_seconds, settings))
    if search is None:
        raise stop or AssertionError  # nothing was found yet

    @cache
    def best() -> LayerDecoding:
        ids = [*prompt_ids, *search.hypotheses[0].ids]
        along = range(len(prompt_ids), len(ids))
        return read_layers(loaded.model, ids, along, layers=rows or None, lens=lens)

    def lines(terminal: Terminal) -> list[str]:
        found = render_search(search, prompt, pieces, terminal)
        if args.view is None or stop is not None:
            return found
        view = View(args.view, args.measure, args.step or 1, track, rows, against, args.heads)
        track_it = partial(track_step, loaded.model, best(), lens=lens)
        again = Again(track_it, partial(explain, loaded.model, best()))
        return [*found, "", *render_under("Rank 1", view, best(), prompt, pieces, terminal, again)]

    def document() -> dict[str, Any]:
        if args.view == "why":
            why = explain(loaded.model, best(), args.step or 1, against, args.heads)
            return why_document(why, prompt, loaded, pieces)
        return beam_document(search, prompt, loaded, pieces, best() if args.view else None)

    def whys() -> Sequence[Why]:
        return explain_text(loaded.model, best(), args.step or 1, against, args.heads)

    writers = text_writers(best, prompt, document, pieces, whys)
    deliver(args, lines, {**writers, ".svg": lambda: drawn(args, lines)}, stop)


def settings_of(args: Namespace) -> BeamSettings:
    """How to search."""
    returned = args.num_beams if args.num_return_sequences is None else args.num_return_sequences
    return BeamSettings(args.max_new_tokens, args.num_beams, returned, args.length_penalty, args.no_repeat_ngram_size)


def in_seconds(settings: BeamSettings, _: BeamSearch, seconds: float) -> str:
    """How long it took."""
    return f"{settings.num_beams} beams of up to {settings.max_new_tokens} tokens in {seconds:.2f} s."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
