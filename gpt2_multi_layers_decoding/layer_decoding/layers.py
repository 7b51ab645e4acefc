"""How a layer is named, a block's output by the block's number, the half step inside a block as 6a; and the lenses.

    5 < 6a < 6        6a: the state inside block 6 after its attention, before its MLP

A name is written with `str` wherever it is read by people, and with `in_files` where programs read it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering


@total_ordering
@dataclass(frozen=True)
class HalfStep:
    """The half step inside a block; in order between the block's number and the one before.

    >>> sorted([6, HalfStep(6), 5]) == [5, HalfStep(6), 6], str(HalfStep(6))
    (True, '6a')
    """

    block: int

    def __str__(self) -> str:
        return f"{self.block}a"

    def __lt__(self, other: object) -> bool:
        if isinstance(other, HalfStep):
            return self.block < other.block
        return self.block <= other if isinstance(other, int) else NotImplemented


Layer = int | HalfStep
PLAIN_LENS = "plain"  # what reads a layer with the model's own norm and head, and nothing else
LINEAR_LENS = "linear"  # and with maps that were fitted to the model


def has_half_steps(layers: Iterable[Layer]) -> bool:
    """Whether any of some layers lies inside a block."""
    return any(isinstance(layer, HalfStep) for layer in layers)


def with_half_steps(layers: Iterable[Layer]) -> list[Layer]:
    """Layers and, before each block's output, the half step inside the block; the embeddings, 0, have none."""
    blocks = {layer.block if isinstance(layer, HalfStep) else layer for layer in layers}
    return sorted({*layers, *(HalfStep(block) for block in blocks if block)})


def in_files(layer: Layer) -> int | str:
    """A layer's name as JSON has it: 6, or "6a"."""
    return str(layer) if isinstance(layer, HalfStep) else layer
