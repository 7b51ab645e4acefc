"""One batch, a row a layer, that grows smaller on its way up: row k leaves after block k.

Block k then works on the rows of the layers k … L only, so decoding L models of 1, 2, … L blocks costs
about half of L full ones. Two hooks on each block do it, whatever the block is made of.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from layer_decoding.lens import Lens


@contextmanager
def leaving_rows(lens: Lens, layers: list[int]) -> Iterator[dict[int, torch.Tensor]]:
    """While open, a forward pass takes a batch of one row a layer (ascending) and lets each leave after its block.

    Yields {layer: hidden [1, D]}, the last position of each row as its layer's block left it. What the base
    model itself returns is the last layer's row alone. Each block's cache holds the rows that reach it.
    """
    left: dict[int, torch.Tensor] = {}
    handles = []
    for layer, block in enumerate(lens.blocks, 1):
        staying = sum(row >= layer for row in layers)
        handles.append(block.register_forward_pre_hook(_cut_inputs(len(layers), staying, left), with_kwargs=True))
        if layer in layers:
            handles.append(block.register_forward_hook(_let_leave(layer, left)))
    try:
        yield left
    finally:
        for handle in handles:
            handle.remove()


def _cut_inputs(full: int, staying: int, left: dict[int, torch.Tensor]) -> Callable[..., Any]:
    """A hook before a block: what was made for the full batch (masks, positions) is cut to the rows still there."""

    def cut(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == full:
            return value[full - staying :]
        return value

    def hook(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args[0].shape[0] == full > staying:  # only layer 0's row leaves before a block: it is the embeddings
            left[0] = args[0][:1, -1]
        return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}

    return hook


def _let_leave(layer: int, left: dict[int, torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A hook after a block: keep the layer's row, which is the first, and pass on the rest."""

    def hook(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        left[layer] = output[:1, -1]
        return output[1:] if len(output) > 1 else output

    return hook
