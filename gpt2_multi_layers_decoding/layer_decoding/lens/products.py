"""Products of few rows with a weight, quicker than torch's usual ones on a CPU; the weights stay as they are.

Torch multiplies float32 matrices with the first library it was built with, MKL; oneDNN, the other, is quicker where
rows are few. Twelve rows go through the linear layers of GPT-2's blocks in 0.5 to 0.7 of the time, measured on two
cores, and through its head in 0.4 to 0.6. Columns of equal weights are exactly equal there, whatever their place.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import linear

from layer_decoding.lens.sharing import set_forward, shallow_copy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Modules = dict[str, torch.nn.Module]  # by their dotted paths in a model

_FEWEST = 3  # rows: one or two are read at the speed of the memory in either way
_MOST = 16  # rows a thread: the usual product shares many well


def _product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Rows [R, D] by a weight [outputs, D], with the bias added: [R, outputs], by oneDNN where it can."""
    quick = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch's compiler calls it, so it is there to stay
    suited = rows.device.type == "cpu" and rows.dtype == torch.float32 and not rows.requires_grad
    if quick is None or not suited or not torch.backends.mkldnn.is_available():
        return linear(rows, weight, bias)
    outputs: torch.Tensor = quick(rows, weight, bias, "none", [], "")
    return outputs


def quick_head(model: "PreTrainedModel") -> Modules:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    A head that is no plain linear layer stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _quick(head)} if path and type(head) is torch.nn.Linear else {}


def quick_layers(model: "PreTrainedModel") -> Modules:
    """The head and all other linear layers, where passes of few rows are to come."""
    from transformers.pytorch_utils import Conv1D

    layers = {path: layer for path, layer in model.named_modules() if type(layer) in (torch.nn.Linear, Conv1D)}
    return {path: _quick(layer, of_few_rows=True) for path, layer in layers.items()} | quick_head(model)


def _quick(layer: Any, of_few_rows: bool = False) -> torch.nn.Module:
    """A twin of a linear layer that multiplies in another way, whatever its input or only if that is of few rows."""
    plain, twin = type(layer), shallow_copy(layer)

    def forward(hidden: torch.Tensor) -> Any:
        rows = hidden.flatten(0, -2)
        if of_few_rows and not _FEWEST <= len(rows) <= _MOST * torch.get_num_threads():
            return plain.forward(twin, hidden)
        weight = twin.weight if plain is torch.nn.Linear else twin.weight.T  # GPT-2 has it the other way round
        outputs = _product(rows, weight, twin.bias)
        return outputs.view(*hidden.shape[:-1], outputs.shape[-1])

    set_forward(twin, forward)
    quick: torch.nn.Module = twin
    return quick
