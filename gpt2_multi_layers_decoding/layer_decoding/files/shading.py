"""The measures of a decoding as tables of what is written in each cell and how dark it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from layer_decoding.results.greedy import LayerDecoding, LayerRow

SHADES = 9  # a stylesheet has a colour for each
ABSENT = "–"


@dataclass(frozen=True)
class Measure:
    """One number a cell: how it is called, written and shaded. Lists are [R][T]; a level is a shade, 0 the palest."""

    name: str  # in the switch
    label: str  # beside its number
    meaning: str  # beside the shades
    texts: list[list[str]]
    levels: list[list[int]]
    low: str
    high: str


def measures_of(decoding: LayerDecoding) -> dict[str, Measure]:
    """The measures that this decoding has, in the order of the page's switch."""
    rows, last = decoding.rows, f"layer {decoding.layer_count}"
    measures = {}
    if (logprobs := _table(rows, "logprob_nats")) is not None:
        words = ("probability", "probability", "how likely each layer finds its own token")
        probabilities = [[math.exp(value) for value in row] for row in logprobs]
        measures["probability"] = _measure(words, probabilities, percent, (0.0, 1.0))
    if (entropies := _table(rows, "entropy_bits")) is not None:
        words = ("entropy", "entropy, bits", "how undecided each layer is, in bits")
        measures["entropy"] = _measure(words, entropies, bits, (0.0, _largest(entropies)))
    if (divergences := _table(rows, "kl_to_final_bits")) is not None:
        words = ("KL", f"KL to {last}, bits", f"how far each layer's probabilities are from {last}'s, in bits")
        measures["kl"] = _measure(words, divergences, bits, (0.0, _largest(divergences)))
    if (ranks := _table(rows, "final_token_rank")) is not None:
        words = ("rank", f"rank of {last}'s token", f"where each layer ranks {last}'s token (shades of the logarithm)")
        measures["rank"] = _measure(words, ranks, ordinal, (1.0, _largest(ranks)), scale=math.log)
    return measures


def percent(probability: float) -> str:
    """A probability with three figures, for which a page has the room: 97.1%, 4.20%, <0.01%.

    What is not quite 0 or 1 is not said to be.
    """
    if probability in (0, 1):
        return f"{probability:.0%}"
    if probability < 0.00005:
        return "<0.01%"
    if probability >= 0.9995:
        return ">99.9%"
    return f"{probability:.1%}" if probability >= 0.09995 else f"{probability:.2%}"


def bits(value: float) -> str:
    """An entropy or divergence as it is shown."""
    return f"{value:.2f}"


def ordinal(rank: float) -> str:
    """A rank as it is shown."""
    return f"{rank:,.0f}"


def _measure(
    words: tuple[str, str, str],
    table: Sequence[Sequence[float]],
    write: Callable[[float], str],
    ends: tuple[float, float],
    scale: Callable[[float], float] = float,
) -> Measure:
    """A table of numbers [R][T], written and shaded between two ends; `words` are name, label and meaning."""
    low, high = (scale(end) for end in ends)

    def level(value: float) -> int:
        if not math.isfinite(value) or high <= low:
            return 0
        return min(SHADES - 1, max(0, int(SHADES * (scale(value) - low) / (high - low))))

    texts = [[write(value) if math.isfinite(value) else ABSENT for value in row] for row in table]
    levels = [[level(value) for value in row] for row in table]
    return Measure(*words, texts, levels, *map(write, ends))


def _table(rows: Sequence[LayerRow], field: str) -> list[Sequence[float]] | None:
    """One measure of every row, None where it was not computed."""
    columns = [getattr(row, field) for row in rows]
    return None if any(column is None for column in columns) else columns


def _largest(table: Sequence[Sequence[float]]) -> float:
    return max((value for value in chain.from_iterable(table) if math.isfinite(value)), default=0.0)
