"""The scale of each layer's logits with the least KL divergence from the last layer, found in one pass over a text.

    KL(p ‖ softmax(s z)) = Σ p log p - s Σ p z + log Σ exp(s z)

is convex in s: it is summed at some values of s, but for its first term, and taken between them by a parabola.
"""

from collections.abc import Sequence

import torch

TENTHS = range(3, 14)  # the scales tried: 0.3, 0.4 … 1.3
_IN_CACHE = 2**20  # numbers, of which a few are there at a time


class Scales:
    """Sums over positions of the divergence at each of the scales tried, for N layers."""

    def __init__(self, layers: int) -> None:
        self.losses = torch.zeros(len(TENTHS), layers, dtype=torch.float64)

    def add(self, logits: torch.Tensor) -> None:
        """Take logits [S, N + 1, V], the last layer's in the last row."""
        for few in logits.split(max(1, _IN_CACHE // logits[0].numel())):
            self.losses += _losses(few)

    def best(self) -> list[float]:
        """The scale of each layer: [N]."""
        return [_lowest(column) for column in self.losses.T.tolist()]


def _losses(logits: torch.Tensor) -> torch.Tensor:
    """log Σ exp(s z) - s Σ p z at each scale s, z of each row [S, N + 1, V] but the last, p of that; summed: [s, N]."""
    rows, final = logits[:, :-1], logits[:, -1].softmax(-1)
    rows = rows - rows.amax(-1, keepdim=True)
    expected = (rows @ final[..., None])[..., 0]  # Σ p z: [S, N]
    tenth = (rows / 10).exp()  # of which those at all other scales are powers, sooner multiplied than exponentiated
    power, losses = tenth ** (TENTHS[0] - 1), []
    for scale in TENTHS:
        power *= tenth
        losses.append((power.sum(-1).log() - scale / 10 * expected).sum(0))
    return torch.stack(losses).cpu().double()


def _lowest(losses: Sequence[float]) -> float:
    """Where a parabola through the least of the losses and its two neighbours has its foot."""
    least = min(range(len(losses)), key=losses.__getitem__)
    if least in (0, len(losses) - 1):
        return TENTHS[least] / 10
    before, here, after = losses[least - 1 : least + 2]
    bend = before - 2 * here + after
    return (TENTHS[least] + ((before - after) / (2 * bend) if bend > 0 else 0.0)) / 10
