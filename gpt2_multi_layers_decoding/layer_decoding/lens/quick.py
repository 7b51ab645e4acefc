"""A view of a model that is quicker where few rows go through it on a CPU; the model stays as it is.

Its linear layers and its head have twins that multiply as `products.py` does, and GPT-2's activation, which is eight
operations in transformers, has one that is a single operation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import gelu

from layer_decoding.lens.products import ALIKE, product
from layer_decoding.lens.sharing import set_forward, shallow_copy, with_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Modules = dict[str, torch.nn.Module]  # by their dotted paths in a model

_plain = ContextVar("plain", default=False)  # whether twins compute as the modules that they stand for

_MOST = 16  # rows a thread: the usual product shares many well
_SMALLEST = 2**19  # numbers of a weight: the usual product with one that fits a cache is soon done


def quick_head(model: "PreTrainedModel", distinct: int | None = None) -> Modules:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    A head that is no plain linear layer, or not on a CPU, stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _quick(head, distinct)} if path and _is_plain(head, torch.nn.Linear) else {}


def with_quick_twins(model: "PreTrainedModel", distinct: int | None = None) -> "PreTrainedModel":
    """A view of a model whose head and GPT-2's activation, and in passes of few rows every linear layer, are twins.

    `distinct`: how many of the first rows of a pass may differ. What comes after them, if it is the first row again, is
    left out of the products, provided that this gives the same numbers bit for bit.
    """
    from transformers.activations import NewGELUActivation
    from transformers.pytorch_utils import Conv1D

    def twin(module: Any) -> torch.nn.Module | None:
        if _is_plain(module, torch.nn.Linear, Conv1D) and module.weight.numel() >= _SMALLEST:
            return _quick(module, distinct, of_few_rows=True)
        return _quick_gelu(module) if type(module) is NewGELUActivation and "forward" not in vars(module) else None

    twins = {module: found for module in model.modules() if (found := twin(module)) is not None}
    places = model.named_modules(remove_duplicate=False)
    replaced = {path: twins[module] for path, module in places if module in twins}
    return with_modules(model, replaced | quick_head(model, distinct))


def _is_plain(layer: Any, *types: type) -> bool:
    """Whether a layer is in float32 on a CPU and multiplies as its class does; another has no twin.

    One that was given a `forward` of its own keeps it. Accelerate's wrapper is no such thing, and fetches the weight
    from wherever it is: the twin's `forward` goes within it.
    """
    if "_hf_hook" in vars(layer):
        return type(layer) in types
    if type(layer) not in types or "forward" in vars(layer):
        return False
    weight: torch.Tensor = layer.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


@contextmanager
def plain_twins() -> Iterator[None]:
    """While open, a view with quick twins gives the model's own numbers, for others to be compared with."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def _quick(layer: Any, distinct: int | None, of_few_rows: bool = False) -> torch.nn.Module:
    """A twin of a linear layer that multiplies in another way, whatever its input or only if that is of few rows."""
    plain, twin = type(layer), shallow_copy(layer)

    def multiply(hidden: torch.Tensor) -> Any:
        rows, threads = hidden.shape[:-1].numel(), torch.get_num_threads()
        few = (1 if threads > 1 else 2) <= rows <= _MOST * threads
        if _plain.get() or (of_few_rows and not few):
            return plain.forward(twin, hidden)
        weight = twin.weight if plain is torch.nn.Linear else twin.weight.T  # GPT-2 has it the other way round
        outputs = product(hidden.flatten(0, -2), weight, twin.bias, alike=distinct is not None)
        return outputs.view(*hidden.shape[:-1], outputs.size(-1))

    set_forward(twin, multiply if distinct is None else _once_each(multiply, max(distinct, ALIKE)))
    quick: torch.nn.Module = twin
    return quick


def _quick_gelu(layer: Any) -> torch.nn.Module:
    """A twin of GPT-2's activation, the GELU approximated by a hyperbolic tangent."""
    twin = shallow_copy(layer)

    def activate(hidden: torch.Tensor) -> Any:
        if _plain.get() or not hidden.is_cpu or hidden.dtype != torch.float32:
            return type(layer).forward(twin, hidden)
        return gelu(hidden, approximate="tanh")

    set_forward(twin, activate)
    quick: torch.nn.Module = twin
    return quick


def _once_each(multiply: Callable[[torch.Tensor], torch.Tensor], distinct: int) -> Callable[[torch.Tensor], Any]:
    """A product that goes without what comes after the first `distinct` of a pass, where that is the first one again.

    A row's numbers must not depend on how many there are. No library promises that, so the first time that there are so
    many the product is computed in both ways; if a bit differs, all of them are multiplied ever after.
    """
    places: dict[torch.Size, torch.Tensor | None] = {}  # by how many rows: which of the distinct each of them is

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rest, size = hidden[distinct:], hidden.shape[:-1]
        which = places.get(size)
        refused = which is None and size in places
        if refused or not rest.size(0) or not torch.equal(rest, hidden[:1].expand_as(rest)):
            return multiply(hidden)
        outputs = multiply(hidden[:distinct])
        if which is not None:
            return outputs.index_select(0, which)
        everything = multiply(hidden)
        which = torch.arange(len(hidden), device=hidden.device)
        which[distinct:] = 0
        places[size] = which if torch.equal(outputs[which], everything) else None
        return everything

    return forward
