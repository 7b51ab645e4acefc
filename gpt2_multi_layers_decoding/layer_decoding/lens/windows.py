"""A text read in disjoint windows: the outputs of its blocks, position by position, ready for the lens.

All positions of a window are read in one pass; what the lens makes of them is as wide as the vocabulary, so it is given
a few positions at a time.
"""

from collections.abc import Iterator, Sequence

import torch

from layer_decoding.layers import Layer
from layer_decoding.lens.blocks import stacked
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.lens import Lens, check_on
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import vocabulary_size

_LOGITS_AT_ONCE = 2**23  # numbers, 34 MB in float32, of which a handful are there at a time: fewer make small products


def read_windows(
    lens: Lens, ids: Sequence[int], layers: list[Layer], length: int, at_once: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(position of the first token predicted, hidden [S, R, D] of the positions before S tokens), S few at a time.

    The lens is checked on the first tokens, against the logits that the model itself gives after them.
    """
    check_on(lens, ids)
    yield from read_unchecked(lens, ids, layers, length, at_once)


def read_unchecked(
    lens: Lens, ids: Sequence[int], layers: list[Layer], length: int, at_once: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """As `read_windows`, for one text of many: the check takes as long as a tenth of a window."""
    with layer_outputs(lens, layers, slice(None)) as outputs:
        for start in range(0, len(ids) - 1, length):
            piece = list(ids[start : start + length])
            lens.blocks.base(input_ids=torch.tensor([piece], device=device_of(lens.model)), use_cache=False)
            for first in range(0, len(piece) - 1, at_once):
                last = min(first + at_once, len(piece) - 1)
                few = {layer: hidden[:, first:last] for layer, hidden in outputs.items()}
                yield start + first + 1, rows_of(few, layers)


def rows_of(outputs: dict[Layer, torch.Tensor], layers: list[Layer]) -> torch.Tensor:
    """The outputs [1, S, D] of some layers, position by position: [S, R, D]."""
    last = max(outputs)
    few = {layer: outputs[layer][0] for layer in {*layers, last}}
    rows: torch.Tensor = stacked(few, layers).unflatten(0, (len(layers), -1))
    return rows.transpose(0, 1)


def lens_logits(lens: Lens, hidden: torch.Tensor, layers: list[Layer]) -> torch.Tensor:
    """The lens on hidden states [S, R, D]: [S, R, V]."""
    logits = lens.logits(hidden.flatten(0, 1), layers * len(hidden))
    return logits.view(len(hidden), len(layers), -1)


def positions_at_once(lens: Lens, layers: list[Layer]) -> int:
    """How many positions the lens is given at a time."""
    return max(1, _LOGITS_AT_ONCE // (len(layers) * vocabulary_size(lens.model)))
