"""Where a model runs and in which numbers: both picked here, each with the reason that the reader is told."""

import re

from layer_decoding.errors import LayerDecodingError, UsageError

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
            " --device auto."
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


def check_dtype(dtype: str) -> None:
    """Raise UsageError for a name that is no dtype to compute in."""
    if dtype != "auto" and dtype not in _BYTES:
        raise UsageError(f"The dtype '{dtype}' is not one of auto, {', '.join(_BYTES)}.")


def memory_error(name: str, parameter_count: int, device: str, dtype: str) -> LayerDecodingError:
    """What did not fit where, how much it needs, and what to try; never done silently in its stead."""
    needed = f"{parameter_count * _BYTES[dtype] / 1e6:,.0f} MB"
    ways = ["a smaller model"]
    if dtype == "float32":
        ways.append("--dtype bfloat16")
    if device != "cpu":
        ways.append("--device cpu")
    return LayerDecodingError(
        f"There is not enough memory on {device} for {name}, whose weights alone take {needed} in {dtype}; try"
        f" {' or '.join(ways)}."
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
