"""What randomness does to a prompt, and what each knob does to the distribution it draws from.

Prints greedy decoding as the yardstick, then a block a setting of temperature, top-k, top-p and min-p: samples with
their numbers, tokens that are not in the greedy text in red (or in [brackets] without colour), and a table of means.

    python multi_layer_sampling_decoding_demo.py
    python multi_layer_sampling_decoding_demo.py --temperature 0.7,1 --top-p 0.5,0.9 --distribution
    python multi_layer_sampling_decoding_demo.py "The dragon" --num-samples 5 --seed 7 --save curves.png
    python multi_layer_sampling_decoding_demo.py --layers 6,12 --json > samples.json
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from layer_decoding.cli.options import (
    Parser,
    add_model_options,
    add_output_options,
    add_save_option,
    layer_list,
    whole_number,
)
from layer_decoding.cli.progress import NoProgress, Progress, ProgressLine
from layer_decoding.cli.running import load_prompted, notice, run
from layer_decoding.files.saving import check_targets, save
from layer_decoding.models.sizes import layer_count, vocabulary_size
from layer_decoding.results.sampling import ModelSamples, Sampling, SamplingRun
from layer_decoding.results.settings import (
    DEFAULT_SETTINGS,
    GREEDY,
    Setting,
    check_runs,
    combinations,
    parse_seed,
    parse_values,
    top_k_notice,
)
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from layer_decoding.decoding.sampling import Sampler
    from layer_decoding.models.loading import LoadedModel
    from layer_decoding.terminal.pieces import Pieces

PURPOSE = "What temperature, top-k, top-p and min-p do to the texts that a model writes."
EXAMPLES = """
python multi_layer_sampling_decoding_demo.py
python multi_layer_sampling_decoding_demo.py --temperature 0.7,1 --top-k 5,50
python multi_layer_sampling_decoding_demo.py "The dragon" --distribution
python multi_layer_sampling_decoding_demo.py --layers 6,9 --save curves.png
"""
FORMATS = (".json", ".png")
KNOBS = (
    ("temperature", float, "logits are divided by it; 0 is greedy"),
    ("top_k", int, "only the k likeliest tokens; 0 is off"),
    ("top_p", float, "only the fewest tokens that hold p; 1 is off"),
    ("min_p", float, "only tokens p times as likely as the top one; 0 is off"),
)


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = "%(prog)s [PROMPT] [OPTION ...]"
    add_model_options(parser)
    group = parser.add_argument_group("sampling", "a value or a comma list each; every combination is run")
    for name, kind, meaning in KNOBS:
        parse = partial(parse_values, name=name, kind=kind)
        group.add_argument(f"--{name.replace('_', '-')}", type=parse, default=[], metavar="LIST", help=meaning)
    group.add_argument("--num-samples", type=whole_number, default=2, metavar="N", help="texts a setting (2)")
    group.add_argument("--seed", type=parse_seed, default=0, metavar="N", help="whole number the dice come from (0)")
    group = parser.add_argument_group("what else to show")
    group.add_argument("--distribution", action="store_true", help="what each setting draws from, as bars")
    group.add_argument(
        "--layers",
        type=layer_list,
        default=[],
        metavar="LIST",
        help="the same on the model cut there: 6,9,12, or all",
    )
    output = add_output_options(parser)
    add_save_option(output, FORMATS)
    return parser


def show(args: Namespace) -> None:
    """Load, draw and print setting after setting, save."""
    settings = choose_settings(args)
    check_targets(args.save, FORMATS)
    if any(path.suffix.lower() == ".png" for path in args.save):
        from layer_decoding.files.figure import check_matplotlib

        check_matplotlib()
    loaded, prompt, prompt_ids = load_prompted(args)

    from layer_decoding.terminal.pieces import Pieces

    for sentence in top_k_notice(settings, vocabulary_size(loaded.model)):
        notice(args, sentence)
    if args.distribution and args.json:
        notice(args, "The panels of --distribution are for the screen; the JSON document has none.")
    pieces = Pieces(loaded.tokenizer)
    started = time.perf_counter()
    whole, sampler = Drawing(args, settings, loaded, prompt, prompt_ids, pieces).run()
    texts = (len(settings) * args.num_samples + 1) * max(1, len(whole.layers))
    notice(args, f"{texts} texts of up to {args.max_new_tokens} tokens in {time.perf_counter() - started:.2f} s.")
    write(args, whole, sampler, prompt, loaded, pieces)


def choose_settings(args: Namespace) -> tuple[Setting, ...]:
    """The combinations asked for; without any, a small set that shows what each knob does."""
    lists = (args.temperature, args.top_k, args.top_p, args.min_p)
    settings = combinations(*lists) if any(lists) else DEFAULT_SETTINGS
    check_runs(len(settings), len(args.layers or [0]))
    return settings


class Drawing:
    """A run under way: each block is printed as soon as its texts are there, so that an interruption loses none."""

    def __init__(
        self,
        args: Namespace,
        settings: Sequence[Setting],
        loaded: "LoadedModel",
        prompt: str,
        prompt_ids: list[int],
        pieces: "Pieces",
    ) -> None:
        self.args, self.settings, self.loaded, self.pieces = args, settings, loaded, pieces
        self.prompt, self.prompt_ids = prompt, prompt_ids
        self.terminal = terminal_of(sys.stdout, args.color, args.width)
        self.layer_count = layer_count(loaded.model)

    def run(self) -> "tuple[SamplingRun, Sampler]":
        """Every setting on every model asked for, the whole one last; and the sampler of that one."""
        from layer_decoding.decoding.sampling import Sampler
        from layer_decoding.lens.truncation import truncate
        from layer_decoding.models.sizes import select_layers
        from layer_decoding.views.sampling import render_heading, render_layer, render_notes

        args, whole = self.args, self.loaded.model
        layers = select_layers(args.layers, self.layer_count) if args.layers is None or args.layers else []
        check_runs(len(self.settings), len(layers) or 1)
        sampler = Sampler(whole, self.prompt_ids, args.max_new_tokens)
        sampler.check_samples(args.num_samples)
        self.say(render_heading(self.prompt, args.seed, self.terminal))
        models = []
        for layer in layers[:-1]:
            self.say(render_layer(layer, self.layer_count, self.terminal))
            cut = Sampler(truncate(whole, layer), self.prompt_ids, args.max_new_tokens)
            models.append(self.draw_model(layer, cut))
        if layers:
            self.say(render_layer(self.layer_count, self.layer_count, self.terminal))
        models.append(self.draw_model(self.layer_count, sampler))
        self.say(render_notes(self.terminal))
        shown = tuple(models) if layers else ()
        ids = tuple(self.prompt_ids)
        return SamplingRun(self.layer_count, ids, args.max_new_tokens, args.seed, models[-1], shown), sampler

    def draw_model(self, layer: int, sampler: "Sampler") -> ModelSamples:
        """All blocks of one model: greedy, each setting, their means, and what each draws from if asked for."""
        from layer_decoding.views.sampling import render_greedy, render_means, render_sampling

        def greedy_block(sampling: Sampling) -> list[str]:
            return render_greedy(sampling.samples[0], self.pieces, self.terminal)

        def block(sampling: Sampling) -> list[str]:
            return render_sampling(sampling, greedy, self.pieces, self.terminal)

        yardstick = self.draw(sampler, GREEDY, 1, greedy_block)
        greedy = yardstick.samples[0]
        samplings = [self.draw(sampler, setting, self.args.num_samples, block) for setting in self.settings]
        model = ModelSamples(layer, greedy, tuple(samplings))
        if self.args.num_samples > 1:
            self.say(render_means(model, self.terminal))
        if self.args.distribution:
            self.draw_panels(sampler, [yardstick, *samplings])
        return model

    def draw(
        self, sampler: "Sampler", setting: Setting, num_samples: int, render: Callable[[Sampling], list[str]]
    ) -> Sampling:
        """The samples of one setting, printed; after Ctrl-C what was finished of them is printed too."""
        from layer_decoding.decoding.sampling import SamplingInterrupted

        watcher: Progress = NoProgress()
        if not (self.args.json or self.args.quiet):
            watcher = ProgressLine(self.args.max_new_tokens)
        with closing(watcher):
            try:
                sampling = sampler.sample(setting, num_samples, self.args.seed, watcher.on_step)
            except SamplingInterrupted as stop:
                watcher.close()
                if stop.result is not None:
                    self.say(render(stop.result))
                raise
        self.say(render(sampling))
        return sampling

    def draw_panels(self, sampler: "Sampler", samplings: Sequence[Sampling]) -> None:
        """A panel a setting, greedy's among them."""
        from layer_decoding.decoding.distribution import next_distribution
        from layer_decoding.views.distribution import render_panel

        logits = sampler.next_logits()
        for sampling in samplings:
            distribution = next_distribution(logits, sampling.setting)
            self.say(render_panel(distribution, sampling.samples[0], self.pieces, self.terminal))

    def say(self, lines: list[str]) -> None:
        """Print lines at once, unless stdout is for JSON."""
        if not self.args.json:
            print("\n".join(lines), flush=True)


def write(
    args: Namespace, whole: SamplingRun, sampler: "Sampler", prompt: str, loaded: "LoadedModel", pieces: "Pieces"
) -> None:
    """The JSON document on stdout and the files, as far as they are asked for."""
    from layer_decoding.files.documents import sampling_document, to_json

    def document() -> str:
        return to_json(sampling_document(whole, prompt, loaded, pieces))

    def picture() -> bytes:
        from layer_decoding.decoding.distribution import curves
        from layer_decoding.files.figure import figure
        from layer_decoding.terminal.spans import shorten

        settings = [sampling.setting for sampling in whole.model.samplings]
        title = f"The next token after {shorten(prompt, 60, '…')!r}, by {loaded.name}"
        return figure(curves(sampler.next_logits(), settings), pieces, title)

    if args.json:
        print(document())
    for path in args.save:
        save(path, {".json": lambda: f"{document()}\n".encode(), ".png": picture})
        notice(args, f"Saved {path}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
