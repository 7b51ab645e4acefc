"""A plain linear head, as a product that takes many rows at hardly more than the price of one.

On a CPU torch multiplies float32 matrices with the first library it was built with, MKL, which takes 25 ms for 12
rows of GPT-2's head and 12 ms for one, measured on two cores. oneDNN, which a tensor in its own layout calls, takes
12 and 5. The weight stays as it is.
"""

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear, pad

from layer_decoding.views import set_forward, twin

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def quick_head(model: "PreTrainedModel", at_once: int | None = None) -> dict[str, torch.nn.Module]:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    `at_once` is how many rows each product takes, filled up where there are fewer, so that no row's numbers depend
    on how many others there are; None is all of them. A head that is no plain linear layer stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _quick(head, at_once)} if path and type(head) is torch.nn.Linear else {}


def _quick(head: torch.nn.Linear, at_once: int | None) -> torch.nn.Module:
    quick: torch.nn.Linear = twin(head)

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)  # [R, D]
        if at_once is None:
            logits = _product(rows, quick)
        else:
            full = pad(rows, (0, 0, 0, -len(rows) % at_once))
            logits = torch.cat([_product(part, quick) for part in full.split(at_once)])[: len(rows)]
        return logits.view(*hidden.shape[:-1], -1)

    set_forward(quick, forward)
    return quick


def _product(rows: torch.Tensor, head: torch.nn.Linear) -> torch.Tensor:
    """The logits [R, V] of rows [R, D]."""
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and torch.backends.mkldnn.is_available():
        return linear(rows.to_mkldnn(), head.weight, head.bias).to_dense()
    return linear(rows, head.weight, head.bias)
