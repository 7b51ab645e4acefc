"""Muon's step beside torch.optim.Muon's, and beside singular values in float64."""

from copy import deepcopy

import pytest
import torch

from conftest import random_gpt2
from layer_decoding.training.model import build_optimizers
from layer_decoding.training.muon import Muon, orthogonalise

SHAPES = [(8, 24), (24, 8), (8, 24), (16, 16), (8, 24)]


def matrices():
    """Matrices of three shapes, three of one of them."""
    dice = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=dice)) for shape in SHAPES]


def step_with(optimizer, parameters, steps=4):
    """The parameters after some steps along the same random gradients."""
    dice = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=dice)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 2e-3), (torch.float32, 2e-2)])
def test_a_stack_steps_as_one_matrix_after_the_other(dtype, tolerance):
    """Torch's own computes in bfloat16: the same in ours to its last digit or two, in float32 to its rounding."""
    ours, theirs, start = matrices(), matrices(), matrices()
    rate = 0.05
    step_with(Muon(ours, rate, dtype), ours)
    step_with(torch.optim.Muon(theirs, lr=rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), theirs)
    for mine, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert moved > 0.1
        assert (mine - other).norm() < tolerance * moved


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_singular_values_come_near_one_and_their_vectors_stay(shape):
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    done = orthogonalise(stack)
    left, _, right = torch.linalg.svd(stack, full_matrices=False)
    inside = left.mT @ done @ right.mT
    values = inside.diagonal(dim1=1, dim2=2)
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-9
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_each_matrix_of_a_stack_is_as_if_alone():
    stack = torch.randn(3, 8, 24, generator=torch.Generator().manual_seed(3))
    stack[1] *= 1000
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in stack])
    torch.testing.assert_close(orthogonalise(stack), alone)


def test_every_parameter_of_a_model_has_one_optimizer():
    model = random_gpt2()
    muon, adamw = build_optimizers(model, 0.01)
    parameters = [p for optimizer in (muon, adamw) for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters()}
    assert len(parameters) == len({id(p) for p in parameters})
    assert [len(group["params"]) for group in muon.param_groups] == [4, 4, 4, 4]


def test_a_state_that_was_kept_goes_on_as_if_never_put_away():
    one, other = matrices(), matrices()
    first, second = Muon(one, 0.05), Muon(other, 0.05)
    step_with(first, one)
    second.load_state_dict(deepcopy(first.state_dict()))  # which hands out the tensors themselves
    for mine, theirs in zip(other, one, strict=True):
        mine.data.copy_(theirs.data)
    for mine, theirs in zip(step_with(first, one), step_with(second, other), strict=True):
        assert torch.equal(mine, theirs)
