"""A plain linear head, as a product that reads its weight fewer times.

`(weight @ rows.T).T` reads the weight once for up to 8 rows at the price of one.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.views import set_forward, twin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Parts = Callable[[torch.Tensor], Sequence[torch.Tensor]]


def quick_head(model: "PreTrainedModel", parts: Parts) -> dict[str, torch.nn.Module]:
    """The head that a view of a model may have in the place of its own: {its dotted path: a quicker twin}.

    `parts` cuts the rows [R, D] into what goes into one product each. A head that is no plain linear layer stays: {}.
    """
    head = model.get_output_embeddings()
    path = next((place for place, module in model.named_modules() if module is head), None)
    return {path: _quick(head, parts)} if path and type(head) is torch.nn.Linear else {}


def _quick(head: torch.nn.Linear, parts: Parts) -> torch.nn.Module:
    quick: torch.nn.Linear = twin(head)

    def product(hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.flatten(0, -2)
        logits = torch.cat([torch.mm(quick.weight, part.T).T for part in parts(rows)])
        if quick.bias is not None:
            logits = logits + quick.bias
        return logits.view(*hidden.shape[:-1], -1)

    set_forward(quick, product)
    return quick
