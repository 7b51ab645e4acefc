"""What a model does after its blocks, position by position, as a linear map of the last hidden state.

    logit_t - logit_a = scale · (norm(hidden) · (U_t - U_a) + b_t - b_a)
    norm(hidden) = weight ∘ (hidden - its mean) / its size + bias          (a LayerNorm; an RMSNorm takes no mean off)

Only the division by the size is not linear. Held as it is at this position, what a summand of the hidden state adds to
the difference is one product: direct logit attribution (Elhage et al., "A Mathematical Framework for Transformer
Circuits", 2021). What the norm is, is found by asking it, and proved on the hidden state that it read.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import Blocks
from layer_decoding.models.sizes import text_config

_ROUNDING = 1e-4  # of the largest number
_SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap")  # what configurations call it


@dataclass
class Ending:
    """The modules that read some positions, T of them, after the blocks, in order: (module, hidden [T, D], answer)."""

    blocks: Blocks
    calls: list[tuple[torch.nn.Module, torch.Tensor, torch.Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class Preference:
    """How the difference of two logits, before a soft cap, comes of the last hidden state; float64 on the CPU.

    Its product with `gradient` [D] is what a summand of that state adds. The biases add what they add to any.
    """

    difference: float
    gradient: torch.Tensor
    norm_bias: float | None  # None: there is none
    head_bias: float | None
    soft_cap: float | None


@contextmanager
def watched_ending(blocks: Blocks, positions: slice) -> Iterator[Ending]:
    """While open, a forward pass leaves what the norm and the head were given and answered at the last positions."""
    ending = Ending(blocks)
    inside = set(blocks.modules.modules())

    def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if all(isinstance(value, torch.Tensor) and value.ndim == 3 for value in [*args[:1], output]) and args:
            ending.calls.append((module, args[0][0, positions], output[0, positions]))

    with ExitStack() as hooks:
        for module in blocks.model.modules():
            if module not in inside:
                hooks.callback(module.register_forward_hook(keep).remove)
        yield ending


def preference(
    ending: Ending, place: int, hidden: torch.Tensor, logits: torch.Tensor, token: int, against: int
) -> Preference:
    """The map at one place of those watched, for the last block's output [D] and the model's logits [V] there.

    Raises:
        LayerDecodingError: what comes after the blocks is not a norm and a head, with a scale or a soft cap at most.
    """
    model = ending.blocks.model
    head = model.get_output_embeddings()
    calls = [(module, given[place], answer[place]) for module, given, answer in ending.calls]
    of_head = [(given, answer) for module, given, answer in calls if module is head]
    if not of_head:
        raise _not_linear(ending.blocks, "its head is not one product")
    normalised, raw = of_head[0]
    norms = [m for m, given, answer in calls if _same(given, hidden) and _same(answer, normalised)]
    if not norms:
        raise _not_linear(ending.blocks, "there is more than a norm before its head")
    scale, cap = _after_head(ending.blocks, raw, logits)
    weight, bias, is_centred = _asked(norms[-1], hidden)
    direction = weight * (_double(hidden) - _double(hidden).mean() * is_centred)
    rest = _double(normalised) - bias
    size = float(rest @ direction / (direction @ direction))
    if (rest - size * direction).abs().max() > _ROUNDING * rest.abs().max():
        raise _not_linear(ending.blocks, "its last norm is neither a LayerNorm nor an RMSNorm")
    rows = _double(head.weight[[token, against]])
    towards = rows[0] - rows[1]
    gradient = scale * size * weight * towards
    head_bias = getattr(head, "bias", None)
    of_biases = None if head_bias is None else _double(head_bias[[token, against]]).tolist()
    return Preference(
        difference=scale * (float(raw[token]) - float(raw[against])),
        gradient=gradient - gradient.mean() * is_centred,  # the same as to take off the mean of each summand
        norm_bias=scale * float(bias @ towards) if bias.any() else None,
        head_bias=None if of_biases is None else scale * (of_biases[0] - of_biases[1]),
        soft_cap=cap,
    )


def _asked(norm: torch.nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """A norm's weight, up to a factor, its bias, and whether it takes the mean off, from what it makes of ones.

    The ones have changing signs, so that there is no mean to take off; then all the same sign, which are all mean.
    """
    signs = torch.ones_like(like)
    signs[1::2] = -1
    plus, minus, ones = (_double(norm(vector[None, None])[0, 0]) for vector in (signs, -signs, torch.ones_like(like)))
    weight, bias = (plus - minus) / 2 * _double(signs), (plus + minus) / 2
    return weight, bias, bool((ones - bias).abs().max() < weight.abs().max() / 2)


def _after_head(blocks: Blocks, raw: torch.Tensor, logits: torch.Tensor) -> tuple[float, float | None]:
    """The scale by which the head's answer is multiplied, and the soft cap over it if there is one."""
    before, after = _double(raw), _double(logits)
    config = text_config(blocks.model.config)
    cap = next((getattr(config, name) for name in _SOFT_CAPS if getattr(config, name, None)), None)
    if cap and _near(cap * torch.tanh(before / cap), after):
        return 1.0, float(cap)
    scale = float(before @ after / (before @ before))
    scale = 1.0 if abs(scale - 1) < _ROUNDING else scale
    if not _near(scale * before, after):
        raise _not_linear(blocks, "its logits are not its head's answer times a number")
    return scale, None


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu().double()  # in this order: some accelerators have no float64


def _near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= _ROUNDING * theirs.abs().max())


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(torch.equal(one.to(other.device), other))


def _not_linear(blocks: Blocks, reason: str) -> LayerDecodingError:
    return LayerDecodingError(
        f"What each part of {type(blocks.model).__name__} adds to a logit cannot be told, since {reason}; use another"
        " view or model.",
        settings=["view", "model"],
    )
