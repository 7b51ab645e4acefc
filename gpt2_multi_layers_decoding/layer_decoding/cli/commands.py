"""The installed commands: which script each is, run as it is by its own name."""

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


def __getattr__(name: str) -> Callable[[], NoReturn]:
    """What an installed command calls: `multi_layer_decoding`, … of this module."""
    if (command := name.replace("_", "-")) in SCRIPTS:
        return partial(run_script, SCRIPTS[command])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_script(script: str) -> NoReturn:
    """Be that script, from its first import to the end of the process."""
    begin()
    leave(import_module(script).main())
