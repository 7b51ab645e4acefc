"""The shades that stand for probabilities and other numbers."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from layer_decoding.terminal.spans import Span
from layer_decoding.terminal.theme import Role, Terminal

CHANCES = (0.1, 0.25, 0.5, 0.75)  # where one shade of probability ends and the next begins
CHANCE_ROLES: tuple[Role, ...] = ("plain", "slight", "fair", "likely", "sure")


def chance_level(probability: float) -> int:
    """How many of the CHANCES a probability reaches: which of the CHANCE_ROLES it has."""
    return bisect_right(CHANCES, probability)


def chance_mark(level: int, terminal: Terminal) -> str:
    """One cell that stands in for the shade where there is no colour."""
    return terminal.theme.stand_in((" " + terminal.glyphs.chances)[level])


def bar(level: int, terminal: Terminal) -> str:
    """One cell that is filled the more, the darker the shade beside it: in colour and without."""
    return (" " + terminal.glyphs.chances)[level]


def chance_legend(terminal: Terminal) -> list[Span]:
    """What the shades of a probability mean."""
    ranges = [f"{low:.0%}-{high:.0%}".replace("%", "", 1) for low, high in pairwise([*CHANCES, 1])]
    return legend(f"Shaded from {CHANCES[0]:.0%} on by the likeliest token's probability:", ranges, terminal)


def legend(said: str, ranges: Sequence[str], terminal: Terminal) -> list[Span]:
    """What the shades after the palest mean, each painted as itself."""
    spans = [Span(said)]
    for level, text in enumerate(ranges, 1):
        spans += [Span(" "), Span(f"{bar(level, terminal)}{text} ", CHANCE_ROLES[level], glued=True)]
    return spans
