"""A measure of a decoding as tables of what is written in each cell and how dark it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import MEASURES, Measure

SHADES = 9  # a stylesheet has a colour for each
ABSENT = "–"


@dataclass(frozen=True)
class ShadedTable:
    """One number a cell: how it is called, written and shaded. Lists are [R][T]; a level is a shade, 0 the palest."""

    name: str  # in the switch
    label: str  # beside its number
    meaning: str  # beside the shades
    texts: list[list[str]]
    levels: list[list[int]]
    low: str
    high: str


def shaded_tables(decoding: LayerDecoding) -> dict[str, ShadedTable]:
    """The measures that a decoding has, by their options, in the order of the page's switch."""
    return {measure.option: _shaded(measure, decoding) for measure in MEASURES if measure.is_in(decoding)}


def _shaded(measure: Measure, decoding: LayerDecoding) -> ShadedTable:
    table = [measure.values(row) for row in decoding.rows]
    ends = measure.low, _largest(table) if measure.high is None else measure.high
    last = f"layer {decoding.layer_count}"
    return ShadedTable(
        measure.name,
        measure.label.format(last=last),
        measure.meaning.format(last=last),
        [[measure.long(value) if math.isfinite(value) else ABSENT for value in row] for row in table],
        [[_level(measure, value, ends) for value in row] for row in table],
        *map(measure.long, ends),
    )


def _level(measure: Measure, value: float, ends: tuple[float, float]) -> int:
    """The shade of a number between the two ends."""
    low, high = map(measure.scale, ends)
    if not math.isfinite(value) or high <= low:
        return 0
    return min(SHADES - 1, max(0, int(SHADES * (measure.scale(value) - low) / (high - low))))


def _largest(table: Sequence[Sequence[float]]) -> float:
    return max((value for value in chain.from_iterable(table) if math.isfinite(value)), default=0.0)
