"""How hidden states come about, for a prompt and then for each chosen token: along one text, or a text a layer.

Shared context: one cached pass a token over the text the last layer writes. Own context: one cached batch a token,
a row a layer, from which row k leaves after block k, so that block k works on L - k + 1 rows.
"""

import copy
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import torch

from layer_decoding.layers import Layer
from layer_decoding.lens.blocks import block_outputs, stacked
from layer_decoding.lens.cache import (
    check_cached,
    check_copyable,
    check_separable,
    new_cache,
    read_on,
    refusing,
    repeat_rows,
)
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.layer_batch import leaving_rows
from layer_decoding.lens.lens import NOT_BY_LAYER, Lens, check_lens, check_near
from layer_decoding.lens.quick import plain_twins
from layer_decoding.models.devices import device_of

if TYPE_CHECKING:
    from transformers.cache_utils import DynamicCache


NO_OWN_TEXTS = "{model} cannot give each layer a text of its own ({error}); use the shared context."


class HiddenStates(Protocol):
    """How hidden states come about: for the prompt, then for each chosen token."""

    def start(self, prompt: list[int]) -> torch.Tensor: ...

    def advance(self, ids: torch.Tensor) -> torch.Tensor: ...


class SharedText:
    """One text, the last layer's: every block's output at its last position, half steps if asked for."""

    def __init__(self, lens: Lens, decoded: list[Layer], stack: ExitStack) -> None:
        self.lens, self.decoded = lens, decoded
        self.outputs = stack.enter_context(layer_outputs(lens, decoded))

    def start(self, prompt: list[int]) -> torch.Tensor:
        """Read the prompt and check the lens on it: hidden [R, D]."""
        self.cache, hidden = prefill(self.lens, prompt, self.outputs)
        return stacked(hidden, self.decoded)

    def advance(self, ids: torch.Tensor) -> torch.Tensor:
        """Append the last layer's choice, ids [R][-1]: hidden [R, D]."""
        read_on(self.lens.blocks.base, ids[-1:, None], self.cache)
        return stacked(self.outputs, self.decoded)


class OwnTexts:
    """A text a layer, in one batch that grows smaller from block to block."""

    def __init__(self, lens: Lens, decoded: list[Layer], stack: ExitStack) -> None:
        check_copyable(lens.model)
        check_separable(lens.model)
        self.lens, self.decoded, self.stack = lens, decoded, stack
        self.left: dict[Layer, torch.Tensor] | None = None

    def start(self, prompt: list[int]) -> torch.Tensor:
        """Read the prompt once for all rows, then give each block's cache as many rows as will reach it."""
        with block_outputs(self.lens.blocks) as outputs:
            self.cache, hidden = prefill(self.lens, prompt, outputs)
        self.cache_of_last = copy.deepcopy(self.cache)
        for layer, block_cache in enumerate(self.cache.layers, 1):
            repeat_rows(block_cache, sum(row >= layer for row in self.decoded))
        return stacked(hidden, self.decoded)

    def advance(self, ids: torch.Tensor) -> torch.Tensor:
        """Append to every row its own choice, ids [R]: hidden [R, D]."""
        if self.left is None:
            return self._first_advance(ids)
        read_on(self.lens.blocks.base, ids[:, None], self.cache)
        return stacked(self.left, self.decoded)

    def _first_advance(self, ids: torch.Tensor) -> torch.Tensor:
        """A step whose last row, which has seen every cut, is compared with a step of the model alone.

        What blocks are given is cut by its shape. Were that wrong for some architecture, its numbers would be too.
        """
        with block_outputs(self.lens.blocks) as outputs, plain_twins():
            read_on(self.lens.blocks.base, ids[-1:, None], self.cache_of_last)
        theirs = self.lens.logits(outputs[self.lens.layer_count], [self.lens.layer_count])
        del self.cache_of_last
        self.left = self.stack.enter_context(leaving_rows(self.lens.blocks, self.decoded))
        with refusing(self.lens.model, NO_OWN_TEXTS, ["context"]):
            hidden = self.advance(ids)
        check_near(self.lens, self.lens.logits(hidden[-1:], self.decoded[-1:]), theirs, "in a batch that grows smaller")
        return hidden


def prefill(
    lens: Lens, prompt: list[int], outputs: dict[Layer, torch.Tensor]
) -> tuple["DynamicCache", dict[Layer, torch.Tensor]]:
    """The prompt through the whole model, once: its cache, and hidden_0 … hidden_L at its last position, [1, D] each.

    The logits that the model itself gives for it are what the lens is checked against.
    """
    check_cached(lens.model)
    cache = new_cache(lens.model)
    assert cache is not None  # there are blocks, or the lens would not have found them
    input_ids = torch.tensor([prompt], device=device_of(lens.model))
    with refusing(lens.model, NOT_BY_LAYER):
        with plain_twins():
            answer = read_on(lens.model, input_ids, cache, logits_to_keep=1)
        check_lens(lens, outputs[lens.layer_count], answer.logits[:, -1])
    return cache, dict(outputs)
