"""What randomness does to a prompt, and what each knob does to the distribution it draws from.

Prints greedy decoding as the yardstick, then a block a setting of temperature, top-k, top-p and min-p: samples with
their numbers, tokens that are not in the greedy text in red (or in [brackets] without colour), and a table of means;
on request every layer along one of the samples.

    python multi_layer_sampling_decoding_demo.py
    python multi_layer_sampling_decoding_demo.py --temperature 0.7,1 --top-p 0.5,0.9 --distribution
    python multi_layer_sampling_decoding_demo.py --temperature 0.8 --sample 2 --view table
    python multi_layer_sampling_decoding_demo.py "The dragon" --num-samples 5 --seed 7 --save curves.png
    python multi_layer_sampling_decoding_demo.py --layers 6,12 --json > samples.json
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from layer_decoding.cli.options import (
    Parser,
    add_layers_option,
    add_lens_option,
    add_model_options,
    add_output_options,
    add_save_option,
    parse_seed,
    rows_asked,
    whole_number,
)
from layer_decoding.cli.running import Lines, Output, drawn, load_prompted, notice, progress_of, run
from layer_decoding.cli.viewing import add_view_options, check_view, token_against, tracked_tokens
from layer_decoding.errors import UsageError
from layer_decoding.files.documents import sampling_document, why_document
from layer_decoding.files.figure import check_matplotlib, figure
from layer_decoding.files.saving import check_targets
from layer_decoding.files.writers import FORMATS as TEXT_FORMATS
from layer_decoding.files.writers import text_writers
from layer_decoding.models.sizes import layer_count, select_cuts, vocabulary_size
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.results.sampling import ModelSamples, Sample, Sampling, SamplingListener, SamplingRun
from layer_decoding.results.settings import DEFAULT_SETTINGS, GREEDY, Setting, check_runs, combinations, top_k_notice
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import shorten
from layer_decoding.terminal.theme import Terminal, terminal_of
from layer_decoding.views.distribution import render_panel
from layer_decoding.views.rows import cut_lens_notes
from layer_decoding.views.sampling import (
    capitalised,
    render_greedy,
    render_heading,
    render_layer,
    render_means,
    render_notes,
    render_sampling,
)
from layer_decoding.views.view import Again, View, render_under

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel

PURPOSE = "What temperature, top-k, top-p and min-p do to the texts that a model writes."
EXAMPLES = """
python multi_layer_sampling_decoding_demo.py --temperature 0.7,1 --top-k 5,50
python multi_layer_sampling_decoding_demo.py --distribution --save curves.png
"""
FORMATS = (*TEXT_FORMATS, ".png")
KNOBS = (
    ("temperature", float, "logits are divided by it; 0 is greedy"),
    ("top_k", int, "only the k likeliest tokens; 0 is off"),
    ("top_p", float, "only the fewest tokens that hold p; 1 is off"),
    ("min_p", float, "only tokens p times as likely as the top one; 0 is off"),
)
Number = TypeVar("Number", int, float)


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("sampling (a value or a comma list each; every combination is run)")
    for name, kind, meaning in KNOBS:
        parse = partial(parse_values, name=name, kind=kind)
        group.add_argument(f"--{name.replace('_', '-')}", type=parse, default=[], metavar="LIST", help=meaning)
    group.add_argument("--num-samples", type=whole_number, default=2, metavar="N", help="texts a setting (2)")
    group.add_argument("--seed", type=parse_seed, default=0, metavar="N", help="whole number the dice come from (0)")
    group = parser.add_argument_group("what else to show")
    group.add_argument("--distribution", action="store_true", help="what each setting draws from, as bars")
    add_layers_option(group, "the same on the model cut there: 6,9,12, or all (none)")
    add_lens_option(group)
    add_view_options(group, BY_OPTION, text="a sample")
    group.add_argument(
        "--sample", type=whole_number, default=1, metavar="N", help="the sample of the first setting to view (1)"
    )
    add_save_option(add_output_options(parser), FORMATS)
    return parser


def parse_values(text: str, name: str, kind: type[Number]) -> list[Number]:
    """An option's comma list for one field of a Setting, each value checked.

    >>> parse_values("0.5,1", "temperature", float)
    [0.5, 1.0]

    Raises:
        UsageError: what is no number, or one that cannot be meant.
    """
    option = name.replace("_", "-")
    numbers = []
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            noun, example = ("whole number", "0,50") if kind is int else ("number", "0.5,1")
            wrong = f"{part.strip()[:40]!r} in --{option} is not a {noun}"
            raise UsageError(f"{wrong}; give {noun}s such as {example}.") from None
        values: dict[str, Any] = {name: number}
        Setting(**values)  # checks it
        numbers.append(number)
    return numbers


def choose_settings(args: Namespace) -> tuple[Setting, ...]:
    """The combinations asked for; without any, a small set that shows what each knob does."""
    lists = (args.temperature, args.top_k, args.top_p, args.min_p)
    settings = combinations(*lists) if any(lists) else DEFAULT_SETTINGS
    check_runs(len(settings), len(args.layers or [0]))
    return settings


def show(args: Namespace) -> None:
    """Load, draw and print setting after setting, save."""
    settings = choose_settings(args)
    check_view(args)
    if args.sample > args.num_samples:
        raise UsageError(
            f"There is no sample {args.sample} of {args.num_samples}; choose a lower one.",
            settings=["sample", "num_samples"],
        )
    check_targets(args.save, FORMATS)
    if any(path.suffix.lower() == ".png" for path in args.save):
        check_matplotlib()
    loaded, prompt, prompt_ids = load_prompted(args)
    for sentence in top_k_notice(settings, vocabulary_size(loaded.model)):
        notice(args, sentence)
    if args.distribution and args.json:
        notice(args, "The panels of --distribution are for the screen; the JSON document has none.")
    started = time.perf_counter()
    blocks = Blocks(args, settings, loaded, prompt)
    run = blocks.draw(prompt_ids)
    texts = (len(settings) * args.num_samples + 1) * max(1, len(run.layers))
    notice(args, f"{texts} texts of up to {args.max_new_tokens} tokens in {time.perf_counter() - started:.2f} s.")
    finish(blocks, run)


class Blocks(SamplingListener):
    """A run under way: each block is printed as soon as its texts are there, so that an interruption loses none."""

    def __init__(self, args: Namespace, settings: Sequence[Setting], loaded: "LoadedModel", prompt: str) -> None:
        self.args, self.settings, self.loaded, self.prompt = args, settings, loaded, prompt
        from layer_decoding.lens.fitted.file import named_lens

        self.pieces, self.output = Pieces(loaded.tokenizer), Output(args)
        self.terminal = terminal_of(sys.stdout, args.color, args.width)
        self.said: list[Lines] = []
        self.track, self.against = tracked_tokens(args, self.pieces), token_against(args, self.pieces)
        self.lens = named_lens(args.lens, loaded)
        self.layer_count = layer_count(loaded.model)
        models = len(select_cuts(args.layers, self.layer_count)) if args.layers != [] else 1
        self.progress = progress_of(args, models * (1 + len(settings)) * args.max_new_tokens)
        self.steps = 0  # of the settings that are done
        self.greedy: Sample | None = None

    def draw(self, prompt_ids: list[int]) -> SamplingRun:
        """Every setting on every model asked for, the whole one last."""
        from layer_decoding.decoding.sampling import sample_settings

        with closing(self.progress):
            return sample_settings(
                self.loaded.model,
                prompt_ids,
                self.args.max_new_tokens,
                self.settings,
                num_samples=self.args.num_samples,
                seed=self.args.seed,
                layers=self.args.layers,
                distributions=self.args.distribution,
                listener=self,
                lens=self.lens,
            )

    def on_start(self) -> None:
        """The prompt and the names of the columns."""
        self.say(partial(render_heading, self.prompt, self.args.seed))

    def on_model(self, layer: int) -> None:
        """The line above the blocks of a model, where there are several."""
        if self.args.layers != []:
            self.say(partial(render_layer, layer, self.layer_count))

    def on_step(self, step: int, newest: dict[int, int]) -> None:
        """Move the progress, which counts the steps of all settings."""
        self.progress.on_step(self.steps + step, newest)

    def on_samples(self, sampling: Sampling) -> None:
        """A block."""
        self.steps += self.args.max_new_tokens
        if sampling.setting is GREEDY:
            self.greedy = sampling.samples[0]
            self.say(partial(render_greedy, self.greedy, self.pieces))
        elif self.greedy is not None:
            self.say(partial(render_sampling, sampling, self.greedy, self.pieces))

    def on_done(self, model: ModelSamples) -> None:
        """The means of a model's settings, and what each draws from if that was asked for."""
        if self.args.num_samples > 1:
            self.say(partial(render_means, model))
        firsts = [model.greedy, *(sampling.samples[0] for sampling in model.samplings)]
        for distribution, text in zip(model.distributions, firsts, strict=False):
            self.say(partial(render_panel, distribution, text, self.pieces))

    def say(self, lines: Lines) -> None:
        """Print lines at once, and keep them for a picture."""
        self.progress.hide()
        if not self.args.json:
            self.output.say(lines(self.terminal))
        self.said.append(lines)

    def lines(self, terminal: Terminal) -> list[str]:
        """All that was said, for another terminal."""
        return [line for lines in self.said for line in lines(terminal)]


def finish(blocks: Blocks, run: SamplingRun) -> None:
    """The legend, the view of a sample, the JSON document and the files, as far as they are asked for."""
    from layer_decoding.decoding.text.along import read_layers, track_step
    from layer_decoding.decoding.why import explain, explain_text

    args, loaded, pieces = blocks.args, blocks.loaded, blocks.pieces
    first = run.model.samplings[0]
    rows = rows_asked(args, blocks.layer_count)

    @cache
    def sample() -> LayerDecoding:
        ids = [*run.prompt_ids, *first.samples[args.sample - 1].ids]
        along = range(len(run.prompt_ids), len(ids))
        return read_layers(loaded.model, ids, along, layers=rows or None, lens=blocks.lens)

    claims = cut_lens_notes(run.lens, run.layer_count) if run.layers else []
    blocks.say(lambda terminal: render_notes(terminal, claims))

    def viewed(terminal: Terminal) -> list[str]:
        view = View(args.view, args.measure, args.step or 1, blocks.track, rows, blocks.against, args.heads)
        heading = f"{capitalised(first.setting.label)}, sample {args.sample}"
        track_it = partial(track_step, loaded.model, sample(), lens=blocks.lens)
        again = Again(track_it, partial(explain, loaded.model, sample()))
        return ["", *render_under(heading, view, sample(), blocks.prompt, pieces, terminal, again)]

    if args.view is not None:
        blocks.say(viewed)

    def document() -> dict[str, Any]:
        if args.view == "why":
            why = explain(loaded.model, sample(), args.step or 1, blocks.against, args.heads)
            return why_document(why, blocks.prompt, loaded, pieces)
        return sampling_document(run, blocks.prompt, loaded, pieces, sample() if args.view else None)

    def whys() -> Sequence[Why]:
        return explain_text(loaded.model, sample(), args.step or 1, blocks.against, args.heads)

    writers = text_writers(sample, blocks.prompt, document, pieces, whys)
    svg = partial(drawn, args, blocks.lines)
    blocks.output.finish({**writers, ".svg": svg, ".png": lambda: picture(blocks, run)})


def picture(blocks: Blocks, run: SamplingRun) -> bytes:
    """The figure of the distribution after the prompt."""
    from layer_decoding.decoding.distribution import curves
    from layer_decoding.decoding.sampling import Sampler

    logits = Sampler(blocks.loaded.model, run.prompt_ids, 1).next_logits()
    title = f"The next token after {shorten(blocks.prompt, 60, '…')!r}, by {blocks.loaded.name}"
    return figure(curves(logits, blocks.settings), blocks.pieces, title)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
