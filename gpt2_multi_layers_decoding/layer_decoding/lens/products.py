"""Products of few rows with a weight, quicker than torch's usual ones on a CPU; the weights stay as they are.

Torch multiplies float32 matrices with the first library it was built with, MKL, which shares a product of few rows
badly among its threads: in GPT-2's blocks twelve rows take 3.5 times as long as one, measured on two cores. Here every
thread has pieces of the weight to itself, each in one place of the memory: 2.5 times.

The head goes to oneDNN, which a tensor in its own layout calls: 12 rows of GPT-2's take 12 ms and one takes 5, where
the usual product takes 25 and 12. Columns of equal weights are exactly equal there, whatever their place.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from layer_decoding.lens.sharing import set_forward, shallow_copy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Modules = dict[str, torch.nn.Module]  # by their dotted paths in a model
Product = Callable[[torch.Tensor, Any], torch.Tensor]  # rows [R, D] and a linear layer: [R, outputs]

_FEW = range(2, 33)  # rows: one is read at the speed of the memory, and many are shared well by the usual product
_PIECES = 4  # a thread


# ---------------------------------------------------------------- products


def _head_product(rows: torch.Tensor, head: torch.nn.Linear) -> torch.Tensor:
    """The logits [R, V] of rows [R, D]."""
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return linear(rows.to_mkldnn(), head.weight, head.bias).to_dense()
    return linear(rows, head.weight, head.bias)


def _linear_product(rows: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
    """A piece of the weight [outputs, D] makes some of the outputs."""
    pieces = _pieces(rows, layer.weight)
    if not pieces:
        return linear(rows, layer.weight, layer.bias)
    weights = layer.weight.unflatten(0, (pieces, -1)).transpose(1, 2)  # [pieces, D, outputs of a piece]
    outputs = rows.expand(pieces, -1, -1).bmm(weights).transpose(0, 1).flatten(1)
    return outputs if layer.bias is None else outputs.add_(layer.bias)


def _conv1d_product(rows: torch.Tensor, layer: Any) -> torch.Tensor:
    """A piece of the weight [D, outputs], GPT-2's way round, makes a summand of every output."""
    pieces = _pieces(rows, layer.weight)
    if not pieces:
        return torch.addmm(layer.bias, rows, layer.weight)
    summands = rows.unflatten(1, (pieces, -1)).transpose(0, 1).bmm(layer.weight.unflatten(0, (pieces, -1)))
    outputs: torch.Tensor = summands.sum(0)
    return outputs.add_(layer.bias)


def _pieces(rows: torch.Tensor, weight: torch.Tensor) -> int:
    """Into how many pieces a weight goes for some rows; 0 where the usual product is as quick, or there are none."""
    threads = torch.get_num_threads()
    suited = rows.device.type == "cpu" and rows.dtype == torch.float32 and torch.backends.mkl.is_available()
    if not suited or threads == 1 or len(rows) not in _FEW or not weight.is_contiguous():
        return 0
    return _PIECES * threads if len(weight) % (_PIECES * threads) == 0 else 0


# ---------------------------------------------------------------- layers that use them


def quick_head(model: "PreTrainedModel") -> Modules:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    A head that is no plain linear layer stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _with_product(head, _head_product)} if path and type(head) is torch.nn.Linear else {}


def quick_layers(model: "PreTrainedModel") -> Modules:
    """The head and all other linear layers, where passes of few rows are to come."""
    from transformers.pytorch_utils import Conv1D

    products: dict[type, Product] = {torch.nn.Linear: _linear_product, Conv1D: _conv1d_product}
    layers = {path: layer for path, layer in model.named_modules() if type(layer) in products}
    quick = {path: _with_product(layer, products[type(layer)]) for path, layer in layers.items()}
    return quick | quick_head(model)


def _with_product(layer: Any, product: Product) -> torch.nn.Module:
    """A twin of a linear layer that multiplies in another way."""
    quick: torch.nn.Module = shallow_copy(layer)

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        outputs = product(hidden.flatten(0, -2), quick)
        return outputs.view(*hidden.shape[:-1], outputs.shape[-1])

    set_forward(quick, forward)
    return quick
