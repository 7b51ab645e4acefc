"""The quick twin of GPT-2's activation: one operation, the same numbers, only in float32 on a CPU."""

import pytest
import torch
from torch.profiler import profile
from transformers.activations import NewGELUActivation

from conftest import random_gpt2
from layer_decoding.lens.quick import plain_twins, with_quick_twins


def activation_of(model, block=0):
    """The activation of a block of a GPT-2's view."""
    return with_quick_twins(model).transformer.h[block].mlp.act


@pytest.mark.parametrize("rows", [0, 1, 2, 12, 33])
def test_gpt2s_activation_is_one_operation_with_the_same_numbers(rows):
    plain, quick = NewGELUActivation(), activation_of(random_gpt2())
    hidden = 5 * torch.randn(rows, 129)
    exact = plain(hidden.double())
    assert (quick(hidden) - exact).abs().le(2e-6).all()
    with profile() as seen:
        quick(hidden)
    assert [event.name for event in seen.events()] == ["aten::gelu"]
    with plain_twins():
        assert torch.equal(quick(hidden), plain(hidden))


@pytest.mark.parametrize("place", [torch.bfloat16, torch.float16, torch.float64, "meta"])
def test_gpt2s_activation_is_the_plain_one_in_16_bits_or_elsewhere(place):
    hidden, quick = torch.randn(3, 129).to(place), activation_of(random_gpt2())
    with profile() as seen:
        answer = quick(hidden)
    assert "aten::gelu" not in {event.name for event in seen.events()}
    assert place == "meta" or torch.equal(answer, NewGELUActivation()(hidden))


def test_an_activation_that_was_given_a_forward_of_its_own_keeps_it():
    model = random_gpt2()
    model.transformer.h[0].mlp.act.forward = torch.zeros_like
    assert not activation_of(model)(torch.randn(2, 5)).any()
    assert activation_of(model, block=1)(torch.randn(2, 5)).any()
