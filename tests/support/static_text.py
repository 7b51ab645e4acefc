"""Shared decoding in steps all alike, as a CUDA graph wants them: a trial, until there is a GPU to capture one on.

Every place of the cache is there from the start and the position is a number on the device, so that a step, like
`measure` and `Steps.take` after it, neither grows anything nor asks for anything. To capture it is to run `advance`
within `torch.cuda.graph` on a token that stays where it is, once, and from then on to copy the token there and replay.
Without that it is no gain: 57 of its 550 operations a step, on 12 blocks, are more than an ordinary step's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from transformers.cache_utils import StaticCache

from layer_decoding.decoding import greedy
from layer_decoding.decoding.contexts import SharedText
from layer_decoding.lens.blocks import Blocks, stacked
from layer_decoding.lens.cache import read_on, takes_positions
from layer_decoding.lens.roomy_cache import RoomyLayer


class StaticText(SharedText):
    """`SharedText` that reads the prompt as ever, and goes on in a StaticCache of so many `places` if it can."""

    def __init__(self, *args: Any, places: int) -> None:
        super().__init__(*args)
        self.places = places
        self.static: StaticCache | None = None

    def start(self, prompt: list[int]) -> torch.Tensor:
        """Read the prompt and check the lens on it: hidden [R, D]."""
        hidden = super().start(prompt)
        self.static = static_copy(self.lens.blocks, self.cache, self.places)
        return hidden

    def advance(self, ids: torch.Tensor) -> torch.Tensor:
        """Append the last layer's choice, ids [R][-1]: hidden [R, D]."""
        if self.static is None:
            return super().advance(ids)
        position = self.static.get_seq_length().clone().view(1, 1)
        read_on(self.lens.blocks.base, ids[-1:, None], self.static, position_ids=position)
        return stacked(self.outputs, self.decoded)


def static_copy(blocks: Blocks, cache: Any, places: int) -> StaticCache | None:
    """What a cache holds, in one that does not grow; None for a model that is not made for it.

    Nor for one whose blocks keep anything but all keys and values: those of a window, a state.
    """
    plain = all(type(layer) is RoomyLayer for layer in cache.layers)
    if not (plain and blocks.model._can_compile_fullgraph and takes_positions(blocks.base)):
        return None
    static = StaticCache(config=blocks.model.config, max_cache_len=places)
    for ours, theirs in zip(static.layers, cache.layers, strict=True):
        ours.update(theirs.keys, theirs.values)
    return static


@contextmanager
def static_steps(places: int) -> Iterator[None]:
    """While open, `decode_layers` goes on in a StaticCache of so many places."""
    with patch.object(greedy, "SharedText", partial(StaticText, places=places)):
        yield
