"""The installed commands: which script each is, run as by its own name; and how a reader types a script here."""

import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import NoReturn

from layer_decoding.cli.process import begin, leave

SCRIPTS = {  # by the name of the command; pyproject.toml has the same
    "multi-layer-decoding": "multi_layer_decoding_demo",
    "multi-layer-beam-search": "multi_layer_beam_search_decoding_demo",
    "multi-layer-sampling": "multi_layer_sampling_decoding_demo",
    "multi-layer-text": "multi_layer_text_demo",
    "multi-layer-explore": "multi_layer_explore_demo",
    "multi-layer-fit-lens": "fit_lens_demo",
}
_TYPED = re.compile(r"\bpython (?P<script>\w+)\.py\b")


def __getattr__(name: str) -> Callable[[], NoReturn]:
    """What an installed command calls: `multi_layer_decoding`, … of this module."""
    if (command := name.replace("_", "-")) in SCRIPTS:
        return partial(run_script, SCRIPTS[command])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_script(script: str) -> NoReturn:
    """Be that script, from its first import to the end of the process."""
    begin()
    leave(import_module(script).main())


def script_with(option: str) -> str | None:
    """The first script that understands an option, as a reader starts it here."""
    for script in SCRIPTS.values():
        parser = import_module(script).build_parser()
        if any(option in action.option_strings for action in parser.options):
            return as_called(f"python {script}.py")
    return None


def as_called(text: str) -> str:
    """Text in which each `python SCRIPT.py` is what starts that script here: a command, a module, a path."""
    return _TYPED.sub(_as_called, text)


def _as_called(typed: "re.Match[str]") -> str:
    script, main = typed["script"], sys.modules["__main__"]
    folder, program = os.path.split(sys.argv[0] if sys.argv else "")
    if program in SCRIPTS:
        return next((command for command, own in SCRIPTS.items() if own == script), typed[0])
    beside = os.path.join(folder, f"{script}.py")  # noqa: PTH118 - pathlib takes a while
    if not os.path.isfile(beside):  # noqa: PTH113
        return typed[0]
    as_module = getattr(getattr(main, "__spec__", None), "name", None) == program.removesuffix(".py")
    return f"python -m {script}" if as_module else f"python {shlex.quote(beside)}"
