"""A model and its tokenizer, ready to decode with: located, read by the source that answers for its kind, placed.

Nothing is printed here: what a reader should know (a download and its size, which model, device and dtype were
picked, and why) goes to `on_notice` as it happens and is kept in `LoadedModel.notes`. Torch and transformers are
imported inside functions, so that a command line can be refused before they are.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief, is_out_of_memory, missing_package
from layer_decoding.models.devices import (
    check_device_map,
    check_dtype,
    devices_of_map,
    is_device,
    memory_error,
    pick_device,
    pick_dtype,
)
from layer_decoding.models.locating import Source, locate
from layer_decoding.models.weights import Blueprint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_PROGRESS_BARS = {
    "huggingface_hub.utils.tqdm": "disable_progress_bars",
    "transformers.utils.logging": "disable_progress_bar",
}


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients, on `device` in `dtype`, and its tokenizer.

    `name` is what it was asked for by, "mini" for the bundled model. `notes` are the notices given while loading.
    `device` names all devices of a model that Accelerate has spread over several.
    `revision` is the commit hash of a snapshot from the Hub's cache, None for a folder.
    `path` is the folder or file that it was read from.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    device: str
    dtype: str
    notes: tuple[str, ...]
    revision: str | None = None
    path: Path | None = None


def load_model(
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    device_map: str | dict[str, str | int] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> LoadedModel:
    """The model called `name`: a Hub name, a folder, a GGUF file, "mini", "smollm2"; None is gpt2, failing that "mini".

    `device` is auto, cpu, cuda, cuda:N or mps; `dtype` is auto, float32, float16 or bfloat16. `device_map` leaves the
    placement to Accelerate, by one of its ways ("auto", "balanced", …) or module by module. Each notice is one
    sentence, given to `on_notice` before what it announces. Raises UsageError for a malformed argument and
    LayerDecodingError for everything that the world refuses, each with one sentence as its message.
    """
    notes: list[str] = []

    def say(notice: str) -> None:
        notes.append(notice)
        if on_notice is not None:
            on_notice(notice)

    check_dtype(dtype)
    check_device_map(device_map, device)
    device, device_reason = pick_device(device)
    source = locate(name, say)
    weights = source.read_weights()
    config = source.read_config()
    tokenizer = source.read_tokenizer(config)
    dtype, dtype_reason = pick_dtype(dtype, device, config.model_type, weights.dtype)
    place = f"on {device} ({device_reason})" if device_map is None else "where Accelerate puts it"
    say(f"Running {source.name} {place} in {dtype} ({dtype_reason}).")
    way = device_map or device
    whole = way if isinstance(way, str) and is_device(way) else None  # on one device, for which nothing is mapped
    model = _read_model(source, Blueprint(config, weights, dtype, None if whole else way), whole)
    if device_map is not None:
        device = devices_of_map(model)
        say(f"Accelerate has put it on {device}.")
    return LoadedModel(model, tokenizer, source.name, device, dtype, tuple(notes), source.revision, source.path)


def quiet_libraries() -> None:
    """Keep the warnings, advice and progress bars of transformers and huggingface_hub from the reader.

    Works before they are imported, through the environment, in which a value that is already set stays; and after.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|tokenizers)(\.|$)")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    for module, switch in _PROGRESS_BARS.items():
        if module in sys.modules:
            getattr(sys.modules[module], switch)()


def _read_model(source: Source, blueprint: Blueprint, device: str | None) -> "PreTrainedModel":
    """The model of `source`, without gradients, on a device, or where its blueprint puts it."""
    try:
        model: Any = source.read_model(blueprint)
        ready: PreTrainedModel = (model.to(device) if device else model).requires_grad_(False)
        return ready
    except LayerDecodingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            where = device or "the devices there are"
            raise memory_error(source.name, blueprint.weights.parameter_count, where, blueprint.dtype) from error
        raise LayerDecodingError(f"The model in {source.path} {_why_not(error, blueprint.config)}.") from error


def _why_not(error: Exception, config: "PreTrainedConfig") -> str:
    """Why a model could not be built, and what to do: what its config asks for that is not here, or damaged files."""
    attention = getattr(config, "_attn_implementation", None)
    quantised: Any = getattr(config, "quantization_config", None)
    package = missing_package(error)
    if attention not in (None, "eager", "sdpa"):
        return (
            f"asks for the attention {attention}, which cannot be had here ({brief(error)}); take attn_implementation"
            " out of its config.json"
        )
    if quantised is not None:
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, dict) else quantised.quant_method
        advice = f"run pip install {package}, or " if package else ""
        return f"is quantised ({method}), which cannot be read here ({brief(error)}); {advice}take one in 16 or 32 bits"
    if package is not None:
        return f"needs the package {package}, which is not installed; run pip install {package}"
    return f"cannot be built from its config.json and weights ({brief(error)}); restore the original files"
