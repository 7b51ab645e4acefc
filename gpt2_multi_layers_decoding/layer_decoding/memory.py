"""What the key-value cache of a batch needs, and how much memory is free.

On Linux a process that takes too much is killed without a word, so what cannot fit is refused beforehand.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from layer_decoding.devices import device_of
from layer_decoding.errors import LayerDecodingError
from layer_decoding.limits import layer_count, text_config, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SCORE_COPIES = 4  # of a step's scores [beams, V] in float32: logits, log-probabilities, running sums, sorted


def check_memory(model: "PreTrainedModel", beams: int, tokens: int) -> None:
    """Raise LayerDecodingError if cache and scores alone are more than the memory that is free."""
    free = free_bytes(model)
    if free is not None and cache_bytes(model, beams, tokens) + score_bytes(model, beams) > free:
        raise cache_error(model, beams, tokens)


def cache_bytes(model: "PreTrainedModel", beams: int, tokens: int) -> int:
    """Keys and values: beams × context × layers × width × 2 × bytes a number."""
    return beams * tokens * layer_count(model) * _width(model) * 2 * int(model.dtype.itemsize)


def score_bytes(model: "PreTrainedModel", beams: int) -> int:
    """What a step's scores over the vocabulary take."""
    return beams * vocabulary_size(model) * 4 * _SCORE_COPIES


def cache_error(model: "PreTrainedModel", beams: int, tokens: int) -> LayerDecodingError:
    """What would be needed, how that comes about, and what to try."""
    layers, size = layer_count(model), model.dtype.itemsize
    factors = f"{beams} × {tokens} tokens × {layers} layers × {_width(model)} × 2 × {size} bytes"
    return LayerDecodingError(
        f"The memory on {device_of(model)} is too small for {beams} beams: the cache would need {factors} = "
        f"{_gigabytes(cache_bytes(model, beams, tokens))} and each step's scores "
        f"{_gigabytes(score_bytes(model, beams))}; use fewer --num-beams or --max-new-tokens."
    )


def free_bytes(model: "PreTrainedModel") -> int | None:
    """The memory that is free where the model is, as far as that can be asked."""
    import torch

    if device_of(model).type == "cuda":
        return int(torch.cuda.mem_get_info(device_of(model))[0])
    if device_of(model).type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
        return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")


def _width(model: "PreTrainedModel") -> int:
    """Numbers a token has in one layer's keys: the hidden width, or less where heads share them."""
    config = text_config(model.config)
    try:
        heads = config.num_attention_heads
        of_keys = getattr(config, "num_key_value_heads", None) or heads
        return int((getattr(config, "head_dim", None) or config.hidden_size // heads) * of_keys)
    except (ValueError, RuntimeError):  # differs from block to block
        return int(config.hidden_size)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
