"""The measures of a layer, each said once: tables, pages, files, options and the means of a text go by this list.

A measure is a field of `LayerRow`, a method of the same name in `lens.measures`, and its entry here.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from layer_decoding.results.greedy import LayerDecoding, LayerRow


@dataclass(frozen=True)
class Measure:
    """One number a layer and step. `{last}` in its words is the name of the last layer."""

    option: str  # what it is called on a command line and in a switch
    field: str  # of LayerRow
    name: str  # as short as it can be said
    label: str  # beside one number of it
    cell: str  # what a cell of a table is
    meaning: str  # what the shades of a page show
    short: Callable[[float], str]  # in few cells
    long: Callable[[float], str]  # where there is room
    low: float = 0.0  # where its shades begin
    high: float | None = None  # where they end; None: at the largest that there is
    scale: Callable[[float], float] = float  # what they follow in between
    unscale: Callable[[float], float] = float  # and back
    shown: Callable[[float], float] = float  # from the field's number to the one that is shown
    needs_shared_text: bool = False  # whether it compares a row with the text, or with the last layer on it
    mean_note: str = ""  # what its mean over a text is of; empty where that says nothing

    @property
    def mean_field(self) -> str:
        """The name of its mean over a text."""
        return f"mean_{self.field}"

    def values(self, row: LayerRow) -> list[float]:
        """A row's numbers as they are shown: [T], empty where they were not measured."""
        return [self.shown(value) for value in getattr(row, self.field) or ()]

    def is_in(self, decoding: LayerDecoding) -> bool:
        """Whether a decoding has it."""
        return all(getattr(row, self.field) is not None for row in decoding.rows)


@dataclass(frozen=True)
class Shades:
    """How many shades stand for a measure's numbers, between two ends; shade 0 is the palest."""

    measure: Measure
    low: float
    high: float
    count: int

    def level(self, value: float) -> int:
        """The shade of a number; that of the lowest for what is no number."""
        low, high = map(self.measure.scale, (self.low, self.high))
        if not math.isfinite(value) or high <= low:
            return 0
        return min(self.count - 1, max(0, int(self.count * (self.measure.scale(value) - low) / (high - low))))

    def bounds(self) -> list[float]:
        """Where each shade begins, and where the last one ends."""
        low, high = map(self.measure.scale, (self.low, self.high))
        return [self.measure.unscale(low + (high - low) * at / self.count) for at in range(self.count + 1)]


def shades_of(measure: Measure, rows: Sequence[LayerRow], count: int) -> Shades:
    """The shades of a measure over some rows: up to the largest number in them, where it has no end of its own."""
    values = [value for row in rows for value in measure.values(row) if math.isfinite(value)]
    return Shades(measure, measure.low, max(values, default=0.0) if measure.high is None else measure.high, count)


def percent(probability: float) -> str:
    """A probability in at most four cells; what is not quite 0 or 1 is not said to be.

    >>> [percent(p) for p in (1, 0.999, 0.486, 0.0486, 0.0004, 0)]
    ['100%', '>99%', '49%', '4.9%', '<.1%', '0%']
    """
    if probability in (0, 1):
        return f"{probability:.0%}"
    if probability >= 0.995:
        return ">99%"
    if probability < 0.0005:
        return "<.1%"
    return f"{probability:.0%}" if probability >= 0.0995 else f"{probability:.1%}"


def long_percent(probability: float) -> str:
    """A probability with three figures, where there is room for them: 97.1%, 4.20%, <0.01%."""
    if probability in (0, 1):
        return f"{probability:.0%}"
    if probability < 0.00005:
        return "<0.01%"
    if probability >= 0.9995:
        return ">99.9%"
    return f"{probability:.1%}" if probability >= 0.09995 else f"{probability:.2%}"


def bits(value: float) -> str:
    """A number of bits: two decimals below ten, one above."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def two_decimals(value: float) -> str:
    """A number of bits where there is room."""
    return f"{value:.2f}"


MEASURES = (
    Measure(
        option="probability",
        field="logprob_nats",
        name="probability",
        label="probability",
        cell="the probability of its layer's likeliest token",
        meaning="how likely each layer finds its own token",
        short=percent,
        long=long_percent,
        high=1.0,
        shown=math.exp,
    ),
    Measure(
        option="entropy",
        field="entropy_bits",
        name="entropy",
        label="entropy, bits",
        cell="the entropy of its layer's prediction in bits",
        meaning="how undecided each layer is, in bits",
        short=bits,
        long=two_decimals,
        mean_note="entropy: of the prediction, in bits",
    ),
    Measure(
        option="kl",
        field="kl_to_final_bits",
        name="KL",
        label="KL to {last}, bits",
        cell="KL(last layer || its layer) in bits",
        meaning="how far each layer's probabilities are from {last}'s, in bits",
        short=bits,
        long=two_decimals,
        needs_shared_text=True,
        mean_note="KL: from {last}'s prediction to it, in bits",
    ),
    Measure(
        option="rank",
        field="final_token_rank",
        name="rank",
        label="rank of {last}'s token",
        cell="its layer's rank of the last layer's token",
        meaning="where each layer ranks {last}'s token (shades of the logarithm)",
        short="{:.0f}".format,
        long="{:,.0f}".format,
        low=1.0,
        scale=math.log,
        unscale=math.exp,
        needs_shared_text=True,
    ),
    Measure(
        option="surprise",
        field="surprise_bits",
        name="surprise",
        label="surprise at the text, bits",
        cell="its layer's surprise at the text's own token (- log2 of its probability) in bits",
        meaning="how surprised each layer is at the text's own token, in bits",
        short=bits,
        long=two_decimals,
        needs_shared_text=True,
        mean_note="surprise: - log2 p(the text's own token), in bits",
    ),
)
BY_OPTION = {measure.option: measure for measure in MEASURES}


def fields(*, shared: bool) -> list[str]:
    """The fields that a text gives, or (not shared) a text a layer."""
    return [measure.field for measure in MEASURES if shared or not measure.needs_shared_text]


def averaged() -> Sequence[Measure]:
    """The measures whose means over a text say something."""
    return [measure for measure in MEASURES if measure.mean_note]
