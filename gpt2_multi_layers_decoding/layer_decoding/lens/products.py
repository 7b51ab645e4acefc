"""Products of few rows with a weight, quicker than torch's usual ones on a CPU; the weights stay as they are.

Torch multiplies float32 matrices with the first library it was built with, MKL; oneDNN, the other, is quicker where
rows are few. Twelve rows go through the linear layers of GPT-2's blocks in 0.5 to 0.7 of the time, measured on two
cores, and through its head in 0.4 to 0.6. Columns of equal weights are exactly equal there, whatever their place.

One row only reads the weight; by several threads it is read in 0.75 of the time if each has a part of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from layer_decoding.lens.sharing import set_forward, shallow_copy, with_modules

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Modules = dict[str, torch.nn.Module]  # by their dotted paths in a model

_plain = ContextVar("plain", default=False)  # whether twins multiply as the layers that they stand for

_MOST = 16  # rows a thread: the usual product shares many well
_PARTS = 4  # of a weight that one row goes through
_ALIKE = 2  # rows from which on oneDNN has one kernel for any number: one alone has another


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Rows [R, D] by a weight [outputs, D], with the bias added: [R, outputs], by oneDNN where it can."""
    quick = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch's compiler calls it, so it is there to stay
    suited = rows.device.type == "cpu" and rows.dtype == torch.float32
    asked_back = torch.is_grad_enabled() and (rows.requires_grad or weight.requires_grad)
    if quick is None or not suited or asked_back or not torch.backends.mkldnn.is_available():
        return linear(rows, weight, bias)
    if len(rows) == 1 and weight.T.is_contiguous() and rows.shape[1] % _PARTS == 0:
        return _in_parts(rows, weight.T, bias)
    outputs: torch.Tensor = quick(rows, weight, bias, "none", [], "")
    return outputs


def _in_parts(row: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A row [1, D] by a weight [D, outputs] as GPT-2 has it: parts of D, each of which lies in one piece, added up."""
    outputs = row.reshape(_PARTS, 1, -1).bmm(weight.view(_PARTS, -1, weight.shape[1])).sum(0)
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
    layers = {path: layer for path, layer in places if _is_plain(layer, torch.nn.Linear, Conv1D)}
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
        outputs = _product(hidden.flatten(0, -2), weight, twin.bias)
        return outputs.view(*hidden.shape[:-1], outputs.shape[-1])

    set_forward(twin, multiply if distinct is None else _once_each(multiply, max(distinct, _ALIKE)))
    quick: torch.nn.Module = twin
    return quick


def _once_each(multiply: Callable[[torch.Tensor], torch.Tensor], distinct: int) -> Callable[[torch.Tensor], Any]:
    """A product that goes without the rows after the first `distinct`, where they are the first one again.

    A row's numbers must not depend on how many there are. No library promises that, so the first time that there are so
    many the product is computed in both ways; if a bit differs, all of them are multiplied ever after.
    """
    alike: dict[int, bool] = {}  # by the number of rows

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)
        rest = rows[distinct:]
        if not alike.get(len(rows), True) or not len(rest) or not torch.equal(rest, rows[:1].expand_as(rest)):
            return multiply(hidden)
        outputs = multiply(rows[:distinct])
        filled = torch.cat([outputs, outputs[:1].expand(len(rest), -1)]).view(*hidden.shape[:-1], -1)
        if len(rows) not in alike:
            everything = multiply(hidden)
            alike[len(rows)] = torch.equal(filled, everything)
            return everything
        return filled

    return forward
