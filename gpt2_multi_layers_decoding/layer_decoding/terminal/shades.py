"""The shades that stand for probabilities."""

from bisect import bisect_right
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


def chance_legend(terminal: Terminal) -> list[Span]:
    """What the shades mean, each painted as itself."""
    ranges = [f"{low:.0%}-{high:.0%}".replace("%", "", 1) for low, high in pairwise([*CHANCES, 1])]
    spans = [Span(f"Shaded from {CHANCES[0]:.0%} on by the likeliest token's probability:")]
    for level, said in enumerate(ranges, 1):
        spans += [Span(" "), Span(f"{chance_mark(level, terminal)}{said} ", CHANCE_ROLES[level], glued=True)]
    return spans
