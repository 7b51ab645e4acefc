"""A block's keys and values with room behind them, so that a token is written there and nothing that is kept is copied.

Transformers' own layer of a cache makes both anew for each token.
"""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

_ROOM = 16  # tokens; where many are kept, an eighth of them


class RoomyLayer(DynamicLayer):
    """A DynamicLayer that holds the same, in tensors that are the first part of longer ones."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Begin, also after a reset."""
        super().lazy_initialization(key_states, value_states)
        self.roomy_keys, self.roomy_values = _Roomy(), _Roomy()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [B, heads, S, width]; all of them, T instead of S."""
        # What gradients go through may not be written into.
        if self.keys is None or self.values is None or not self.keys.numel() or torch.is_grad_enabled():
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self.roomy_keys.with_more(self.keys, key_states)
        self.values = self.roomy_values.with_more(self.values, value_states)
        return self.keys, self.values


class _Roomy:
    """A tensor that is longer than what is shown of it."""

    def __init__(self) -> None:
        self.whole = self.shown = torch.empty(0)

    def with_more(self, kept: torch.Tensor, more: torch.Tensor) -> torch.Tensor:
        """`kept` [..., T, width] and what follows it, [..., S, width], in one.

        It is copied where there is no room, and where it is not what was shown last: cropped, say, or reordered.
        """
        start = kept.shape[-2]
        end = start + more.shape[-2]
        if kept is not self.shown or end > self.whole.shape[-2]:
            self.whole = kept.new_empty(*kept.shape[:-2], end + max(_ROOM, end // 8), kept.shape[-1])
            self.whole[..., :start, :] = kept
        self.whole[..., start:end, :] = more
        self.shown = self.whole[..., :end, :]
        return self.shown
