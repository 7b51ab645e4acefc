"""Options, defined once for every script; parsed before torch is imported.

A value that cannot be meant is a UsageError here, in one sentence with the value; what only the model can
tell (is there a layer 13?) is told later.
"""

import argparse
import os
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from layer_decoding.cli.commands import as_called, script_with
from layer_decoding.cli.input import DEFAULT_PROMPT
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.files.saving import check_suffix
from layer_decoding.layers import PLAIN_LENS, HalfStep, Layer, with_half_steps
from layer_decoding.terminal.theme import MINIMUM_WIDTH

MODEL_VARIABLE = "LAYER_DECODING_MODEL"  # names the model of a run that names none
_HALF_STEP = re.compile(r"([0-9]{1,4})a")
_SHELLS = ("bash", "zsh", "fish")
_FILES, _MAYBE_FILES = ("FILE", "FOLDER", "TEXT"), ("model", "lens")  # metavars and options whose values are files
DEVICE_MAPS = ("auto", "balanced")  # Accelerate's ways to spread a model


class Parser(argparse.ArgumentParser):
    """An argument parser of the house: no abbreviations, errors raised as one sentence, examples kept as written."""

    def __init__(self, purpose: str, examples: str) -> None:
        super().__init__(
            description=purpose,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in as_called(examples).strip().splitlines()),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=False,  # among the options of the shell instead
        )
        self._positionals.title = "what to read"

    @property
    def options(self) -> list[argparse.Action]:
        """What it understands besides the positional arguments."""
        return [action for action in self._actions if action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Called by argparse for every mistake on the command line."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}; {self._advice(message)}see --help.")

    def _advice(self, message: str) -> str:
        """What may have been meant where something was not understood."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:
            return ""
        option = re.split("[ =]", unknown, maxsplit=1)[0]
        names = [name for action in self.options for name in action.option_strings]
        if not option.startswith("-") or option in names:  # after --, where options are words
            return "put quotes around a prompt of several words, or "
        if script := script_with(option):
            return f"{script} takes it, or "
        near = get_close_matches(option, names, 1)
        return f"did you mean {near[0]}? Else " if near else ""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Called by argparse for every value. Python 3.11 takes --track=-- for an option without one, and fails."""
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            value = self._get_value(action, "--")
            self._check_value(action, value)
            return value
        return super()._get_values(action, arg_strings)


class _ShowVersion(argparse.Action):
    """--version, looked up only where it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print it and end."""
        from layer_decoding import __version__

        print(f"{parser.prog} {__version__}")
        parser.exit()


class _PrintCompletion(argparse.Action):
    """--print-completion SHELL: what a shell has to read to complete a command's options; shtab is of an extra."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, __: object = None) -> NoReturn:
        """Print it and end.

        Raises:
            LayerDecodingError: shtab is not installed.
        """
        try:
            import shtab
        except ImportError:
            raise LayerDecodingError(
                "Completions are made by the package shtab, which is not installed; run pip install shtab."
            ) from None
        for action in parser._actions:
            if action.metavar in _FILES or action.dest in _MAYBE_FILES:
                vars(action)["complete"] = shtab.FILE
        print(shtab.complete(parser, shell))
        parser.exit()


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Narrow enough for 80 columns, option names in a column of their own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


def add_model_options(parser: Parser) -> None:
    """The prompt, which model runs, and where."""
    add_prompt(parser)
    group = add_model_group(parser)
    group.add_argument("--chat", action="store_true", help="ask the prompt in the model's chat template")
    group.add_argument("--truncate-prompt", action="store_true", help="of a prompt that is too long keep the end")
    group.add_argument("--max-new-tokens", type=whole_number, default=20, metavar="N", help="tokens to write (20)")


def add_model_group(parser: Parser) -> "argparse._ArgumentGroup":
    """Which model runs, and where; the group, for what else decides how it runs."""
    group = parser.add_argument_group("model")
    add_model_name(group)
    add_device(group)
    group.add_argument(
        "--device-map", choices=DEVICE_MAPS, metavar="WAY", help="or spread by Accelerate: auto, balanced"
    )
    group.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16 (auto)")
    return group


def add_prompt(parser: Parser) -> None:
    """The text to begin with; see `read_prompt`."""
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help=f"text to continue, - for stdin ({DEFAULT_PROMPT})")


def add_model_name(group: "argparse._ArgumentGroup") -> None:
    """Which model, for scripts that leave the dtype alone."""
    group.add_argument(
        "--model",
        default=os.environ.get(MODEL_VARIABLE) or None,
        metavar="NAME",
        help="Hub name, folder, .gguf, smollm2, mini (gpt2, else mini)",
    )


def add_device(group: "argparse._ArgumentGroup") -> None:
    """Where it runs."""
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")


def add_output_options(parser: Parser) -> "argparse._ArgumentGroup":
    """What is printed and how; the group, for a script's own output options."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print the result as JSON, alone")
    add_screen_options(group)
    return group


def add_screen_options(group: "argparse._ArgumentGroup") -> None:
    """How lines look, for scripts that print nothing but lines."""
    group.add_argument(
        "--color",
        choices=["auto", "always", "never"],
        default="auto",
        metavar="WHEN",
        help="colour: auto, always or never (auto)",
    )
    group.add_argument("--width", type=_width, metavar="CELLS", help="wrap at this width (the terminal's)")
    add_shell_options(group)


def add_shell_options(group: "argparse._ArgumentGroup") -> None:
    """What every script understands, whatever it shows."""
    group.add_argument("-h", "--help", action="help", help="show this and exit")
    group.add_argument("--quiet", action="store_true", help="no notices on stderr")
    group.add_argument("--debug", action="store_true", help="show tracebacks and the libraries' warnings")
    group.add_argument("--version", action=_ShowVersion, help="show program's version number and exit")
    group.add_argument("--print-completion", action=_PrintCompletion, choices=_SHELLS, help=argparse.SUPPRESS)


def add_save_option(group: "argparse._ArgumentGroup", suffixes: Collection[str]) -> None:
    """--save FILE, as often as wanted: `args.save` is a list of paths, each ending in one of the suffixes."""

    def target(text: str) -> Path:
        try:
            check_suffix(Path(text), suffixes)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error).removesuffix(".")) from None
        return Path(text)

    kinds = ", ".join(suffixes)
    group.add_argument(
        "--save", type=target, action="append", default=[], metavar="FILE", help=f"also write to a file ({kinds})"
    )


def add_layers_option(group: "argparse._ArgumentGroup", meaning: str) -> None:
    """--layers LIST: `args.layers` is a list of layers, None for all blocks, [] where it is not given; --sublayers."""
    group.add_argument("--layers", type=layer_list, default=[], metavar="LIST", help=meaning)
    group.add_argument("--sublayers", action="store_true", help="each layer's half step too: 6a, after its attention")


def rows_asked(args: argparse.Namespace, layer_count: int) -> list[Layer] | None:
    """The layers to show, as --layers, with --sublayers the half steps inside their blocks too."""
    layers: list[Layer] | None = args.layers
    return with_half_steps(layers or range(1, layer_count + 1)) if args.sublayers else layers


def add_lens_option(group: "argparse._ArgumentGroup") -> None:
    """--lens NAME: which lens reads the layers, see `lens.fitted.file.named_lens`."""
    group.add_argument(
        "--lens", default=PLAIN_LENS, metavar="NAME", help=f"plain, linear (fitted), or its file ({PLAIN_LENS})"
    )


def add_lenses_option(group: "argparse._ArgumentGroup") -> None:
    """--lens LIST: the same where several can stand side by side: `args.lens` is a list of names, each once."""
    group.add_argument(
        "--lens",
        type=lens_list,
        default=[PLAIN_LENS],
        metavar="LIST",
        help=f"plain, linear (fitted), its file, or several: plain,linear ({PLAIN_LENS})",
    )


def lens_list(text: str) -> list[str]:
    """The value of --lens where it is a list.

    >>> lens_list("plain,linear")
    ['plain', 'linear']
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of lenses such as plain,linear")
    return names


def whole_number(text: str) -> int:
    """An option's value as an integer of at least 1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small, it must be at least 1")
    return number


def parse_seed(text: str) -> int:
    """The value of --seed; any whole number. Raises UsageError for what is none."""
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"The seed {text[:40]!r} is not a whole number; give one such as 0.") from None


def _width(text: str) -> int:
    """The value of --width: enough cells for a label and some text."""
    cells = whole_number(text)
    if cells < MINIMUM_WIDTH:
        raise argparse.ArgumentTypeError(f"{cells} cells are too narrow, give at least {MINIMUM_WIDTH}")
    return cells


def layer_list(text: str) -> list[Layer] | None:
    """The value of --layers: '1,6a,9-12' as layers, 'all' as None.

    >>> list(map(str, layer_list("1,6a,9-12")))
    ['1', '6a', '9', '10', '11', '12']
    """
    if text.strip() == "all":
        return None
    layers: list[Layer] = []
    for part in text.split(","):
        if half := _HALF_STEP.fullmatch(part.strip()):
            layers.append(HalfStep(int(half[1])))
            continue
        first, dash, last = (side.strip() for side in part.partition("-"))
        if not (first.isdecimal() and first.isascii()) or (dash and not (last.isdecimal() and last.isascii())):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 1,6,9-12, or all")
        low, high = int(first), int(last or first)
        if high < low:
            raise argparse.ArgumentTypeError(f"the range {part.strip()} runs backwards, write {high}-{low}")
        if high > 9999:
            raise argparse.ArgumentTypeError(f"there is no layer {high}")
        layers += range(low, high + 1)
    return sorted(set(layers))
