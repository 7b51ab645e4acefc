"""What a model keeps of what it has read, and reading on from there.

The cache holds each block's keys and values or, in recurrent blocks, a state.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache as remembered
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError, is_out_of_memory
from layer_decoding.models.sizes import layer_count, text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache


NOT_READ_ON = "{model} cannot be read on from a cache ({error}); use another model, such as mini."


def new_cache(model: "PreTrainedModel") -> "DynamicCache | None":
    """An empty cache; None for a model cut off before its first block, which has nothing to keep."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    from layer_decoding.lens.roomy_cache import RoomyLayer

    if not layer_count(model):
        return None
    cache = DynamicCache(config=model.config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]  # transformers' own
        for layer in cache.layers
    ]
    return cache


def read_on(model: torch.nn.Module, ids: torch.Tensor, cache: "DynamicCache | None", **options: Any) -> Any:
    """The answer of a model, or of its base, to ids [B, S] that follow what is in the cache.

    Positions are named where the model takes them, as `generate` does: not every family counts on from its cache.
    """
    if takes_positions(model) and "position_ids" not in options:
        read = 0 if cache is None else cache.get_seq_length()
        options["position_ids"] = torch.arange(read, read + ids.shape[1], device=ids.device)[None]
    return model(input_ids=ids, past_key_values=cache, use_cache=cache is not None, **options)


def takes_positions(model: torch.nn.Module) -> bool:
    """Whether a model, or its base, can be told the positions of what it reads."""
    return "position_ids" in _parameters(type(model).forward)


@remembered
def _parameters(forward: Callable[..., Any]) -> frozenset[str]:
    """The names of what a function can be given."""
    return frozenset(inspect.signature(forward).parameters)


def repeat_rows(cache: Any, rows: int) -> None:
    """Make a batch of so many rows of a cache, or of one block's part of it, that holds one."""
    cache.reorder_cache(torch.zeros(rows, dtype=torch.long))


def copied_up_to(cache: "DynamicCache", length: int) -> "DynamicCache | None":
    """A copy that holds the first `length` tokens of a cache; None where it has not kept what it was then.

    A recurrent state, and keys that have left a sliding window, cannot be taken back.
    """
    copied = copy.deepcopy(cache)
    try:
        copied.crop(length - cache.get_seq_length())  # a negative number: so many from the end
    except (RuntimeError, ValueError):
        return None
    return copied if copied.get_seq_length() == length else None


def check_cached(model: "PreTrainedModel") -> None:
    """Refuse a model that keeps nothing of what it has read."""
    if "past_key_values" not in _parameters(type(model).forward):
        raise LayerDecodingError(
            f"{type(model).__name__} has no cache to read on from; use another model, such as mini.", settings=["model"]
        )


def check_copyable(model: "PreTrainedModel") -> None:
    """Refuse a model that keeps what it has read in its blocks, or nowhere, rather than in a cache to copy."""
    check_cached(model)
    kept = {name for module in model.modules() for name in vars(module) if name.endswith(("_state", "_states"))}
    if kept:
        raise LayerDecodingError(
            f"The blocks of {type(model).__name__} keep their state to themselves ({min(kept)}), so it cannot be copied"
            " for several texts; use another model, such as mini.",
            settings=["model"],
        )


def check_separable(model: "PreTrainedModel") -> None:
    """Refuse a model in which some blocks read keys and values that other blocks made, rather than their own."""
    if getattr(text_config(model.config), "num_kv_shared_layers", 0):
        raise LayerDecodingError(
            f"The blocks of {type(model).__name__} share keys and values, so it cannot be cut off after one of them, "
            "nor give each layer a text of its own; keep to the shared context and to the whole model."
        )


@contextmanager
def refusing(model: "PreTrainedModel", sentence: str, settings: Sequence[str] = ("model",)) -> Iterator[None]:
    """Turn what an architecture trips over, where it is tried for the first time, into a refusal of it.

    `sentence` says so, with `{model}` for the class of the model and `{error}` for the type of what it raised.

    Raises:
        LayerDecodingError: that sentence.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        said = sentence.format(model=type(model).__name__, error=type(error).__name__)
        raise LayerDecodingError(said, settings=settings) from error
