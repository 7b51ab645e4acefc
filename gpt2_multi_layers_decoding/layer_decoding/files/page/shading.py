"""A measure of a decoding as tables of what is written in each cell and how dark it is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import MEASURES, Measure, shades_of

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


def shaded_tables(decoding: LayerDecoding, among: Sequence[LayerRow] = ()) -> dict[str, ShadedTable]:
    """The measures that a decoding has, by their options, in the order of the page's switch.

    Shades reach as far as the numbers `among` which they are looked at; as a rule, those of the decoding alone.
    """
    rows = among or decoding.rows
    return {measure.option: _shaded(measure, decoding, rows) for measure in MEASURES if measure.is_in(decoding)}


def _shaded(measure: Measure, decoding: LayerDecoding, among: Sequence[LayerRow]) -> ShadedTable:
    table = [measure.values(row) for row in decoding.rows]
    shades = shades_of(measure, among, SHADES)
    last = f"layer {decoding.layer_count}"
    return ShadedTable(
        measure.name,
        measure.label.format(last=last),
        measure.meaning.format(last=last),
        [[written(measure, value) for value in row] for row in table],
        [list(map(shades.level, row)) for row in table],
        measure.long(shades.low),
        measure.long(shades.high),
    )


def written(measure: Measure, value: float) -> str:
    """A number as a page has it."""
    return measure.long(value) if math.isfinite(value) else ABSENT
