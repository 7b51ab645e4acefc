"""Products of few rows with a weight, quicker than torch's usual ones on a CPU; the weights stay as they are.

Torch multiplies float32 matrices with the first library it was built with, MKL; oneDNN, the other, is quicker where
rows are few, but begins with a copy of the weight in an order of its own. Where a weight lies output by output, as a
head's does, it is therefore handed over as the rows, and the few rows as the weight: only they are copied then. Twelve
rows go through GPT-2's head in 0.3 of the usual time, measured on two cores, and through the linear layers of its
blocks, which lie the other way round, in 0.5 to 0.7. Equal weights give exactly equal numbers, whatever their place.

Up to three rows do little more than read the weight. Where it lies as in GPT-2's blocks, that is quickest if each
thread has parts of it for itself: one row takes 0.75 of the usual time, two take 0.5.
"""

from collections.abc import Callable

import torch
from torch.nn.functional import linear, pad

ALIKE = 2  # rows from which on oneDNN has one kernel for any number, and a row the same numbers
_IN_PARTS = 3  # rows: more are oneDNN's
_PARTS = 8  # of a weight that so few rows go through
_COLUMNS = 8  # rows that oneDNN has a kernel for if they are the weight; fewer take no less time
_AS_WEIGHT = 32  # rows, at most: many are not worth their way back


def product(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, alike: bool = False) -> torch.Tensor:
    """Rows [R, D] by a weight [outputs, D], with the bias added: [R, outputs], by oneDNN where it can.

    `alike`: by one kernel from ALIKE rows on, though two or three have a quicker one.
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
