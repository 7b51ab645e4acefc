"""One batch, a row a layer, that grows smaller on its way up: row k leaves after block k.

Block k then works on the rows of the layers k … L only, so decoding L models of 1, 2, … L blocks costs
about half of L full ones. Two hooks on each block do it, whatever the block is made of.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from layer_decoding.layers import Layer
from layer_decoding.lens.blocks import Blocks, hidden_input, hidden_output, with_hidden
from layer_decoding.models.sizes import text_config


@contextmanager
def leaving_rows(blocks: Blocks, layers: Sequence[Layer]) -> Iterator[dict[Layer, torch.Tensor]]:
    """While open, a forward pass takes a batch of one row a layer (ascending) and lets each leave after its block.

    Yields {layer: hidden [1, D]}, the last position of each row as its layer's block left it. The base model itself
    ends with as many rows as it began with, all of them the last layer's. Each block's cache holds the rows that
    reach it.
    """
    left: dict[Layer, torch.Tensor] = {}
    heads = _head_count(blocks)
    handles = []
    for layer, block in enumerate(blocks.modules, 1):
        rows = _Rows(len(layers), sum(row >= layer for row in layers), heads)
        handles.append(block.register_forward_pre_hook(_cut_inputs(rows, left), with_kwargs=True))
        if layer in layers:
            handles.append(block.register_forward_hook(_let_leave(layer, rows, left)))
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _Rows:
    """The `full` batch that the model believes in, and the last rows of it that are `staying` up to a block."""

    full: int
    staying: int
    heads: int

    def cut(self, value: Any) -> Any:
        """What was made for the full batch (masks, positions), alone or in tuples and dicts, for the rows still there.

        A three-dimensional tensor may have rows and heads in one dimension, as ALiBi's biases do.
        """
        if isinstance(value, tuple | list):
            return type(value)(map(self.cut, value))
        if type(value) is dict:
            return {name: self.cut(item) for name, item in value.items()}
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return value
        if value.shape[0] == self.full:
            return value[self.full - self.staying :]
        if value.ndim == 3 and value.shape[0] == self.full * self.heads:
            return value[(self.full - self.staying) * self.heads :]
        return value


def _head_count(blocks: Blocks) -> int:
    """Attention heads, 0 where their number differs from block to block."""
    try:
        return int(getattr(text_config(blocks.model.config), "num_attention_heads", None) or 0)
    except (ValueError, RuntimeError):
        return 0


def _cut_inputs(rows: _Rows, left: dict[Layer, torch.Tensor]) -> Callable[..., Any]:
    """A hook before a block: everything the block is given is cut to the rows that are still there."""

    def hook(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden = hidden_input(args, options)
        if hidden.shape[0] == rows.full > rows.staying:  # only layer 0's row leaves before a block: the embeddings
            left[0] = hidden[:1, -1]
        return rows.cut(args), rows.cut(options)

    return hook


def _let_leave(layer: int, rows: _Rows, left: dict[Layer, torch.Tensor]) -> Callable[..., Any]:
    """A hook after a block: keep the layer's row, which is the first, and pass on the rest.

    The last row is passed on as a full batch, which is what the model expects where it ends.
    """

    def hook(_module: torch.nn.Module, _args: object, output: Any) -> Any:
        hidden = hidden_output(output)
        left[layer] = hidden[:1, -1]
        rest = hidden[1:] if rows.staying > 1 else hidden.expand(rows.full, -1, -1)
        return with_hidden(output, rest)

    return hook
