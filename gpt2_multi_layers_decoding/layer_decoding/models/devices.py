"""Where a model runs and in which numbers: both picked here, each with the reason that the reader is told."""

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from layer_decoding.errors import LayerDecodingError, UsageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]+)?")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def pick_device(asked: str = "auto") -> tuple[str, str]:
    """The device to run on, and why. Raises UsageError for a malformed name, LayerDecodingError for an absent one."""
    if not _DEVICE.fullmatch(asked):
        raise UsageError(f"The device '{asked}' is not one of auto, cpu, cuda, cuda:N and mps.")
    present = _devices()
    if asked == "auto":
        best = present[0].partition(":")[0]
        return best, {"cuda": "the first GPU", "mps": "Apple's GPU", "cpu": "no GPU was found"}[best]
    if ("cuda:0" if asked == "cuda" else asked) not in present:
        raise LayerDecodingError(
            f"The device {asked} is not here: torch finds {', '.join(present)}{_cuda_hint(asked)}; use one of those, or"
            " auto.",
            settings=("device",),
        )
    return asked, "as asked"


def pick_dtype(asked: str, device: str, model_type: str, checkpoint_dtype: str) -> tuple[str, str]:
    """The dtype to compute in, and why. Token equality with the reference is promised in float32 alone."""
    check_dtype(asked)
    if asked != "auto":
        return asked, "as asked"
    if device == "cpu":
        return "float32", "the default on a CPU"
    if model_type == "gpt2":
        return "float32", "the default for GPT-2"
    return checkpoint_dtype, "as the weights are stored"


def is_device(name: str) -> bool:
    """Whether a name is that of one device, such as cuda:1, rather than a way to spread a model."""
    return name != "auto" and _DEVICE.fullmatch(name) is not None


def check_device_map(device_map: object, device: str) -> None:
    """Refuse a device beside a device map, and a device map without Accelerate."""
    if device_map is None:
        return
    if device != "auto":
        raise UsageError(
            f"A device map places the model by itself, and the device {device} was asked for too; drop one."
        )
    if find_spec("accelerate") is None:
        raise LayerDecodingError(
            "A device map needs the package accelerate, which is not installed; run pip install accelerate."
        )


def devices_of_map(model: "PreTrainedModel") -> str:
    """Where Accelerate has put the parts of a model: "cuda:0, cpu", say."""
    places = getattr(model, "hf_device_map", {"": model.device}).values()
    return ", ".join(dict.fromkeys(f"cuda:{place}" if isinstance(place, int) else str(place) for place in places))


def device_of(model: "PreTrainedModel") -> "torch.device":
    """Where a model takes its ids: for one that Accelerate has placed, whose weights may be elsewhere, as it says."""
    import torch

    hook = getattr(model, "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    return model.device if place is None else torch.device(place)


def check_dtype(dtype: str) -> None:
    """Raise UsageError for a name that is no dtype to compute in."""
    if dtype != "auto" and dtype not in _BYTES:
        raise UsageError(f"The dtype '{dtype}' is not one of auto, {', '.join(_BYTES)}.")


def memory_error(name: str, parameter_count: int, device: str, dtype: str) -> LayerDecodingError:
    """What did not fit where, how much it needs, and what to try; never done silently in its stead."""
    needed = f"{parameter_count * _BYTES[dtype] / 1e6:,.0f} MB"
    ways = {"model": "a smaller model"}
    if dtype == "float32":
        ways["dtype"] = "bfloat16"
    if device != "cpu":
        ways["device"] = "the CPU"
    return LayerDecodingError(
        f"There is not enough memory on {device} for {name}, whose weights alone take {needed} in {dtype}; try"
        f" {' or '.join(ways.values())}.",
        settings=tuple(ways),
    )


def _devices() -> list[str]:
    """The devices that torch can use, best first."""
    import torch

    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def _cuda_hint(asked: str) -> str:
    """What a reader with a GPU but the CPU build of torch has to know."""
    import torch

    return "" if asked == "mps" or torch.version.cuda else f", and torch {torch.__version__} is built without CUDA"
