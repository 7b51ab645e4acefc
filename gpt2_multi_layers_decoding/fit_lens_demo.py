"""Fit a lens to a model: for each layer a linear map that predicts what the last layer will say.

Reads a text, fits in closed form, and measures on documents that were held out: how far each layer is from the last
one, in bits, and how often it agrees, through the plain lens, through one that only adds a vector, and through the
fitted one. Writes one file, whole or not at all, that every script reads as --lens FILE; without --out it goes beside
the user's other lenses, where --lens linear finds it.

    python fit_lens_demo.py tales.txt --model mini
    python fit_lens_demo.py tales.txt --model gpt2 --tokens 30000
    python fit_lens_demo.py tales.txt --model mini --steps 300 --out tuned.safetensors
    python multi_layer_decoding_demo.py --model mini --lens linear
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from layer_decoding.cli.options import Parser, add_model_group, add_screen_options, whole_number
from layer_decoding.cli.progress import NoProgress, Progress, ProgressLine
from layer_decoding.cli.running import load, notice, run
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.files.saving import check_targets, save
from layer_decoding.results.text import TextMeasures
from layer_decoding.terminal.theme import terminal_of
from layer_decoding.views.text import render_comparison

if TYPE_CHECKING:
    from layer_decoding.lens.fitted.linear import FittedLens
    from layer_decoding.models.loading import LoadedModel

PURPOSE = "Fit a lens to a model: a linear map for each layer that predicts the last one."
EXAMPLES = """
python fit_lens_demo.py tales.txt --model mini
python fit_lens_demo.py tales.txt --steps 300 --out tuned.safetensors
python multi_layer_decoding_demo.py --lens linear
"""
SUFFIXES = (".safetensors",)
TOKENS = 60_000  # more change nothing that can be seen
HELD_OUT_TOKENS = 5_000  # to measure on, through each lens
DOCUMENT_TOKENS = 1_000  # of each document, where there are enough of them: so that many have a say
MOST_CHARACTERS = 10  # of a token, on average
FIRST_LOOK = 5  # seconds after which it can be said how long the rest will take
SLOW = 90  # seconds from which on that is worth a line


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s TEXT [OPTION ...]"
    parser.add_argument(
        "text", type=Path, metavar="TEXT", help="UTF-8 text or .xz, <|endoftext|> lines between documents"
    )
    add_model_group(parser)
    group = parser.add_argument_group("fitting")
    group.add_argument("--tokens", type=whole_number, default=TOKENS, metavar="N", help=f"tokens to read ({TOKENS})")
    group.add_argument("--steps", type=whole_number, default=0, metavar="N", help="tune on, so many steps of Adam (0)")
    group.add_argument(
        "--held-out",
        type=whole_number,
        default=HELD_OUT_TOKENS,
        metavar="N",
        help=f"tokens of other documents to measure on ({HELD_OUT_TOKENS})",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, metavar="FILE", help="write the lens to FILE.safetensors (the user's cache)")
    add_screen_options(group)
    return parser


def show(args: Namespace) -> None:
    """Read, load, fit, measure, write."""
    from layer_decoding.training.corpus import read_documents

    check_targets([args.out] if args.out else [], SUFFIXES)
    documents, held_out = read_documents(args.text)
    loaded = load(args)
    ids = [token for document in some_ids(loaded, held_out, args.held_out) for token in document]
    if len(ids) < 2:
        raise UsageError(
            f"There are {len(ids)} held-out tokens to measure on; ask for 2 or more.",
            settings=["held_out"],
        )
    lenses, compared = fit_and_measure(args, loaded, some_ids(loaded, documents, args.tokens * 5 // 4), ids)

    from layer_decoding.lens.fitted.file import cached_place, lens_bytes

    lens = with_origin(lenses[-1], compared[-1], loaded, args)
    out = args.out or cached_place(loaded.model)
    make_folder(out)
    save(out, {SUFFIXES[0]: lambda: lens_bytes(lens)})
    terminal = terminal_of(sys.stdout, args.color, args.width)
    print("\n".join(render_comparison(compared, terminal, ("KL", "agrees"))))
    use = f"--lens {out}" if args.out else "--lens linear"
    notice(args, f"Saved {out}; read with it by {use}.")


def some_ids(loaded: "LoadedModel", documents: Sequence[str], tokens: int) -> list[list[int]]:
    """The ids of documents that hold so many tokens together: as few of each as that takes."""
    from layer_decoding.models.prompts import encode_prompt
    from layer_decoding.models.texts import encode_text

    prefix = encode_prompt(loaded.tokenizer, "")
    most, found = max(2, min(DOCUMENT_TOKENS, tokens // 10)), list[list[int]]()
    while sum(map(len, found)) < tokens and most <= 2 * tokens:
        found = []
        for document in documents:
            if (missing := tokens - sum(map(len, found))) <= 0:
                break
            beginning = document[: most * MOST_CHARACTERS]
            found.append(list(encode_text(loaded.tokenizer, [beginning], prefix)[: min(most, missing)]))
        most *= 2
    return found


def fit_and_measure(
    args: Namespace, loaded: "LoadedModel", documents: list[list[int]], held_out: list[int]
) -> "tuple[list[FittedLens | None], list[TextMeasures]]":
    """The lenses to compare, and what each gives on the tokens held out; the one to write is the last.

    None (plain), constant, linear, and tuned if that was asked for.
    """
    from layer_decoding.decoding.text.means import measure_text
    from layer_decoding.training.fitting.fit import Fit

    fitting = Fit(loaded.model, documents, args.tokens)
    count, in_fit = 4 if args.steps else 3, fitting.cost(args.steps)
    watch = Watch(args, round(in_fit + count * len(held_out) * fitting.lens_cost))
    fitting.on_step = watch.on_step
    with closing(watch.progress):
        watch.say(f"Fitting on {sum(map(len, fitting.fitted)):,} tokens of {len(fitting.fitted)} documents ...")
        linear = fitting.linear()
        lenses: list[FittedLens | None] = [None, fitting.constant(), linear]
        if args.steps:
            lenses.append(fitting.tuned(linear, args.steps))
        watch.say(f"Fitted in {watch.seconds:.0f} s.")
        watch.say(f"Measuring on {len(held_out):,} held-out tokens, through {count} lenses ...")
        compared = []
        for number, lens in enumerate(lenses):
            begun = in_fit + number * len(held_out) * fitting.lens_cost

            def on_step(tokens: int, newest: dict[int, int], begun: float = begun) -> None:
                watch.on_step(round(begun + tokens * fitting.lens_cost), newest)

            compared.append(measure_text(loaded.model, held_out, lens=lens, on_step=on_step))
    return lenses, compared


class Watch:
    """Shows how far a fit is, and says once, early on, how long a slow one will take."""

    def __init__(self, args: Namespace, total: int) -> None:
        self.args, self.total = args, total
        self.progress: Progress = NoProgress() if args.quiet else ProgressLine(total)
        self.started, self.said = time.perf_counter(), False

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.started

    def say(self, sentence: str) -> None:
        """A notice, with the bar out of its way."""
        self.progress.hide()
        notice(self.args, sentence)

    def on_step(self, done: int, newest: dict[int, int]) -> None:
        """Told of what is done of the total so far."""
        if not self.said and self.seconds > FIRST_LOOK:
            self.said, needed = True, self.seconds * self.total / done
            if needed > SLOW:
                self.say(f"This will take about {needed / 60:.0f} minutes; fewer --tokens or --held-out take less.")
        self.progress.on_step(done, newest)


def with_origin(
    lens: "FittedLens | None", measured: TextMeasures, loaded: "LoadedModel", args: Namespace
) -> "FittedLens":
    """The lens with what it was fitted on, for the header of its file."""
    assert lens is not None  # the plain one is never the last
    bits = [summary.means["kl_to_final_bits"] for summary in measured.layers[:-1]]
    facts = {"model": loaded.name, "text": args.text.name, "held_out_tokens": measured.scored_count}
    return replace(lens, origin={**facts, **lens.origin, "held_out_bits": [round(value, 4) for value in bits]})


def make_folder(out: Path) -> None:
    """The folder of the user's lenses may not be there yet."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LayerDecodingError(
            f"{out.parent} cannot be made ({error.strerror}); choose a file that can be written.", settings=["out"]
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
