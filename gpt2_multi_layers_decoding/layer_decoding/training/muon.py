"""Muon: momentum made orthogonal, for the matrices of the blocks (K. Jordan et al., "Muon", 2024).

The step is that of torch.optim.Muon, which takes one matrix after the other: here all matrices of a shape are stacked
and go through each product at once, which a GPU needs to be busy. And on a processor without bfloat16 that of
torch takes fifteen times as long as float32, which is used here.
"""

import math
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch

MOMENTUM = 0.95
WEIGHT_DECAY = 0.1
ROUNDS = 5
COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic; steepest at 0, so that small singular values grow fastest


class Muon(torch.optim.Optimizer):
    """Steps matrices of all shapes; `dtype` is what the directions are computed in, whatever the weights are in."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float, dtype: torch.dtype = torch.float32) -> None:
        by_shape = groupby(sorted(matrices, key=_shape), key=_shape)
        super().__init__([{"params": list(group)} for _, group in by_shape], {"lr": lr})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Step every matrix; each has a gradient."""
        for group in self.param_groups:
            self._step_stack(group["params"], group["lr"])

    def _step_stack(self, matrices: list[torch.nn.Parameter], rate: float) -> None:
        """Step N matrices of one shape; their momentum, [N, rows, columns], is kept with the first."""
        gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
        state = self.state[matrices[0]]
        if not state:
            state["momentum"] = torch.zeros_like(gradients)
        momentum = state["momentum"].lerp_(gradients, 1 - MOMENTUM)
        ahead = gradients.lerp(momentum, MOMENTUM)  # Nesterov's: where the momentum leads next
        directions = orthogonalise(ahead.to(self.dtype)).to(gradients.dtype)
        scale = 0.2 * math.sqrt(max(gradients.shape[1:]))  # an entry then moves about as far as AdamW would move it
        for matrix, direction in zip(matrices, directions, strict=True):
            matrix.mul_(1 - rate * WEIGHT_DECAY).add_(direction, alpha=-rate * scale)


def orthogonalise(stack: torch.Tensor) -> torch.Tensor:
    """U Vᵀ of each matrix U S Vᵀ, nearly: its singular values brought to between 0.7 and 1.2; [N, rows, columns].

    Newton–Schulz: x ← a x + b (x xᵀ) x + c (x xᵀ)² x moves every singular value alike and needs products alone.
    """
    if stack.shape[1] > stack.shape[2]:  # the smaller of the two squares is cheaper
        return orthogonalise(stack.mT).mT
    a, b, c = COEFFICIENTS
    x: torch.Tensor = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # no singular value is above 1 then
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _shape(matrix: torch.nn.Parameter) -> tuple[int, ...]:
    return tuple(matrix.shape)
