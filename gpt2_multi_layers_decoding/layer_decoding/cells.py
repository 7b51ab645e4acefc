"""What a cell of a table holds: a token on its own, cut to a width, and numbers as short as they can be said."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

from wcwidth import iter_graphemes, wcwidth, width

from layer_decoding.pieces import Pieces
from layer_decoding.rows import visible
from layer_decoding.terminal import Glyphs, Role, Terminal
from layer_decoding.wrapping import Span

CHANCES = (0.1, 0.25, 0.5, 0.75)  # where one shade of probability ends and the next begins
CHANCE_ROLES: tuple[Role, ...] = ("plain", "slight", "fair", "likely", "sure")
CHOSEN = "*"
_JOINER = "\u200d"


def token_texts(ids: Iterable[int], pieces: Pieces, glyphs: Glyphs) -> list[str]:
    r"""Tokens as each looks in a cell of its own: a fragment of a character is its bytes, `\xE2`."""
    return [alone(visible(pieces.of([token])[0], glyphs)) for token in ids]


def alone(text: str) -> str:
    r"""A token's text with what would join it to a neighbouring cell spelt out: accents and joiners at its edges.

    >>> alone("\u0301a\u200d")
    '\\u0301a\\u200d'
    """
    kept = text.rstrip(_JOINER)
    ending = text[len(kept) :]
    start = next((at for at, character in enumerate(kept) if wcwidth(character) > 0), len(kept))
    return _spelt(kept[:start]) + kept[start:] + _spelt(ending)


def _spelt(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def shorten(text: str, cells: int, dots: str) -> str:
    """The beginning of a text that fits, with dots after it where some is left out.

    >>> shorten(" responsibility", 8, "…")
    ' respon…'
    """
    if width(text) <= cells:
        return text
    kept = ""
    for letter in iter_graphemes(text):
        if width(kept + letter) > cells - width(dots):
            break
        kept += letter
    return kept + dots[: max(0, cells)]


def shorten_left(text: str, cells: int, dots: str) -> str:
    """The end of a text that fits, with dots before it where some is left out.

    >>> shorten_left("once upon a time", 8, "…")
    '… a time'
    """
    if width(text) <= cells:
        return text
    kept = ""
    for letter in reversed(list(iter_graphemes(text))):
        if width(letter + kept) > cells - width(dots):
            break
        kept = letter + kept
    return dots + kept


def flush_right(text: str, cells: int) -> str:
    """Text with spaces before it, up to a width in cells."""
    return " " * (cells - width(text)) + text


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
