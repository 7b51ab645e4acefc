"""Products of few rows with a weight, quicker than torch's usual ones on a CPU; the weights stay as they are.

Torch multiplies float32 matrices with the first library it was built with, MKL; oneDNN, the other, is quicker where
rows are few, but begins with a copy of the weight in an order of its own. Where a weight lies output by output, as a
head's does, it is therefore handed over as the rows, and the few rows as the weight: only they are copied then. Twelve
rows go through GPT-2's head in 0.3 of the usual time, measured on two cores, and through the linear layers of its
blocks, which lie the other way round, in 0.5 to 0.7. Equal weights give exactly equal numbers, whatever their place.

Up to three rows do little more than read the weight. Where it lies as in GPT-2's blocks, that is quickest if each
thread has parts of it for itself: one row takes 0.75 of the usual time, two take 0.5.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear, pad

from layer_decoding.lens.sharing import set_forward, shallow_copy, with_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Modules = dict[str, torch.nn.Module]  # by their dotted paths in a model

_plain = ContextVar("plain", default=False)  # whether twins multiply as the layers that they stand for

_MOST = 16  # rows a thread: the usual product shares many well
_IN_PARTS = 3  # rows: more are oneDNN's
_PARTS = 8  # of a weight that so few rows go through
_COLUMNS = 8  # rows that oneDNN has a kernel for if they are the weight; fewer take no less time
_AS_WEIGHT = 32  # rows, at most: many are not worth their way back
_SMALLEST = 2**19  # numbers of a weight: the usual product with one that fits a cache is soon done
_ALIKE = 2  # rows from which on oneDNN has one kernel for any number, and a row the same numbers


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, alike: bool = False) -> torch.Tensor:
    """Rows [R, D] by a weight [outputs, D], with the bias added: [R, outputs], by oneDNN where it can.

    `alike`: by one kernel from _ALIKE rows on, though two or three have a quicker one.
    """
    quick = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch's compiler calls it, so it is there to stay
    suited = rows.is_cpu and rows.dtype == torch.float32
    asked_back = torch.is_grad_enabled() and (rows.requires_grad or weight.requires_grad)
    if quick is None or not suited or asked_back or not torch.backends.mkldnn.is_available():
        return linear(rows, weight, bias)
    count, width = rows.shape
    if 1 < count <= _AS_WEIGHT and weight.is_contiguous():
        return _as_weight(quick, rows, weight, bias)
    if not alike and count <= _IN_PARTS and width % _PARTS == 0 and weight.T.is_contiguous():
        return _in_parts(rows, weight.T, bias)
    outputs: torch.Tensor = quick(rows, weight, bias, "none", [], "")
    return outputs


def _as_weight(
    quick: Callable[..., torch.Tensor], rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Rows [R, D] by a weight [outputs, D], the other way round: the weight by the rows, and turned back."""
    filled = pad(rows, (0, 0, 0, -len(rows) % _COLUMNS))
    columns = quick(weight, filled, None, "none", [], "").unbind(1)[: len(rows)]
    outputs = torch.stack(columns)  # in half the time that turning them with `contiguous` takes
    return outputs if bias is None else outputs.add_(bias)


def _in_parts(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Rows [R, D] by a weight [D, outputs] as GPT-2 has it: parts of D, each of which lies in one piece, added up."""
    split = rows.view(len(rows), _PARTS, -1).transpose(0, 1)
    outputs = split.bmm(weight.view(_PARTS, -1, weight.shape[1])).sum(0)
    return outputs if bias is None else outputs.add_(bias)


def quick_head(model: "PreTrainedModel", distinct: int | None = None) -> Modules:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    A head that is no plain linear layer, or not on a CPU, stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _quick(head, distinct)} if path and _is_plain(head, torch.nn.Linear) else {}


def with_quick_products(model: "PreTrainedModel", distinct: int | None = None) -> "PreTrainedModel":
    """A view of a model whose head, and in passes of few rows every linear layer, is a quicker twin on a CPU.

    `distinct`: how many of the first rows of a pass may differ. What comes after them, if it is the first row again, is
    left out of the products, provided that this gives the same numbers bit for bit.
    """
    from transformers.pytorch_utils import Conv1D

    places = model.named_modules(remove_duplicate=False)
    layers = {
        path: layer
        for path, layer in places
        if _is_plain(layer, torch.nn.Linear, Conv1D) and layer.weight.numel() >= _SMALLEST
    }
    quick = {layer: _quick(layer, distinct, of_few_rows=True) for layer in layers.values()}
    return with_modules(model, {path: quick[layer] for path, layer in layers.items()} | quick_head(model, distinct))


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
def plain_products() -> Iterator[None]:
    """While open, a view with quick products gives the model's own numbers, for others to be compared with."""
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
        outputs = _product(hidden.flatten(0, -2), weight, twin.bias, alike=distinct is not None)
        return outputs.view(*hidden.shape[:-1], outputs.size(-1))

    set_forward(twin, multiply if distinct is None else _once_each(multiply, max(distinct, _ALIKE)))
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
