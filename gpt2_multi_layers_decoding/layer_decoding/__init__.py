"""See what every layer of a GPT-2 model would have said.

A model's answer goes one way: *decoding* (torch, no printing) returns frozen dataclasses of plain Python values,
*views* and *files* (no torch) turn them into lines and bytes, and only a script prints.

    errors      what a failure says, and its exit code
    layers      how a layer is named
    results     what decoding returns
    models      which model, from where, on what
    lens        a model taken apart and read layer by layer
    decoding    the strategies: greedy, beam search, sampling, a given text
    terminal    text on one terminal, whatever it says
    views       a result as lines
    files       a result as JSON, CSV, a page, a figure
    exploring   a board to walk about on: its keys, its screen
    cli         what all scripts share
    training    a small GPT-2 of one's own, a lens fitted;  teaching: what the lessons are made of
    mini_gpt2   the bundled model

Shape symbols, used in every docstring:

    B batch    P prompt tokens    T generated tokens    L layers    R rows (layers decoded)
    D hidden width    V vocabulary    K candidates    N tracked tokens

Importing this package imports no torch: the names below are fetched when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from layer_decoding.decoding.beam import beam_search
    from layer_decoding.decoding.greedy import decode_layers
    from layer_decoding.decoding.sampling import sample
    from layer_decoding.decoding.text.along import read_layers
    from layer_decoding.decoding.text.means import measure_text
    from layer_decoding.decoding.why import explain, explain_text
    from layer_decoding.errors import Interrupted, LayerDecodingError, UsageError
    from layer_decoding.files.notebook import save_page, show, to_dataframe
    from layer_decoding.layers import HalfStep
    from layer_decoding.lens.fitted.linear import FittedLens
    from layer_decoding.lens.truncation import truncate
    from layer_decoding.models.loading import LoadedModel, load_model
    from layer_decoding.results.beam import BeamSearch
    from layer_decoding.results.greedy import LayerDecoding
    from layer_decoding.results.text import TextMeasures
    from layer_decoding.training.fitting.fit import fit_lens

_HOME_OF = {
    "BeamSearch": "results.beam",
    "FittedLens": "lens.fitted.linear",
    "HalfStep": "layers",
    "Interrupted": "errors",
    "LayerDecoding": "results.greedy",
    "LayerDecodingError": "errors",
    "LoadedModel": "models.loading",
    "TextMeasures": "results.text",
    "UsageError": "errors",
    "beam_search": "decoding.beam",
    "decode_layers": "decoding.greedy",
    "explain": "decoding.why",
    "explain_text": "decoding.why",
    "fit_lens": "training.fitting.fit",
    "load_model": "models.loading",
    "measure_text": "decoding.text.means",
    "read_layers": "decoding.text.along",
    "sample": "decoding.sampling",
    "save_page": "files.notebook",
    "show": "files.notebook",
    "to_dataframe": "files.notebook",
    "truncate": "lens.truncation",
}

__all__ = [
    "BeamSearch",
    "FittedLens",
    "HalfStep",
    "Interrupted",
    "LayerDecoding",
    "LayerDecodingError",
    "LoadedModel",
    "TextMeasures",
    "UsageError",
    "beam_search",
    "decode_layers",
    "explain",
    "explain_text",
    "fit_lens",
    "load_model",
    "measure_text",
    "read_layers",
    "sample",
    "save_page",
    "show",
    "to_dataframe",
    "truncate",
]


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(f"layer_decoding.{_HOME_OF[name]}"), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'layer_decoding' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The installed version; looking it up costs more than all other imports here, so it is done when asked for."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gpt2-multi-layers-decoding")
    except PackageNotFoundError:  # run from the source folder, nothing installed
        return "0.1.0"
