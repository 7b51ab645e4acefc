"""Numbers as short as they can be said, and the shades that stand for probabilities."""

from bisect import bisect_right
from itertools import pairwise

from layer_decoding.terminal.spans import Span
from layer_decoding.terminal.theme import Role, Terminal

CHANCES = (0.1, 0.25, 0.5, 0.75)  # where one shade of probability ends and the next begins
CHANCE_ROLES: tuple[Role, ...] = ("plain", "slight", "fair", "likely", "sure")
CHOSEN = "*"


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


def bits(value: float) -> str:
    """A number of bits: two decimals below ten, one above."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


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
