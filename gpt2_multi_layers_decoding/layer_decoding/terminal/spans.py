"""Spans of text with a role, laid into lines of a width in cells: padded and wrapped first, painted last."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from wcwidth import iter_graphemes, width

from layer_decoding.terminal.hidden import whole_emoji
from layer_decoding.terminal.pieces import shown, visible
from layer_decoding.terminal.theme import Role, Terminal, Theme


@dataclass(frozen=True)
class Span:
    """A stretch of one role. A `glued` one stays with the word before it, its own spaces notwithstanding.

    A `piece` is every other one of the tokens that make up a word: themes in colour set it off from its neighbours.
    """

    text: str
    role: Role = "plain"
    glued: bool = False
    piece: bool = False


def pad(text: str, cells: int) -> str:
    """Text with spaces after it, up to a width in cells."""
    return text + " " * (cells - width(text))


def wrap(spans: Iterable[Span], cells: int | None, theme: Theme) -> list[list[Span]]:
    """Break spans into lines of at most `cells` cells, before spaces where one is near; None: a single line.

    Nothing is dropped: the lines joined are the spans joined. The marks that the theme draws count.
    """
    if cells is None:
        return [merge(spans)]
    lines: list[list[Span]] = [[]]
    used = 0
    for word in _words(spans):
        used += cells_of(word, theme)
        if used > cells and lines[-1]:
            used = cells_of([*lines[-1], *word], theme)  # less than the sum where stretches meet and share their marks
        if used > cells and lines[-1]:
            lines.append([])
            used = cells_of(word, theme)
        if used <= cells:
            lines[-1] += word
            continue
        for letter in (
            replace(span, text=g, glued=False)
            for span in word
            for g in ([span.text] if span.glued else iter_graphemes(span.text))
        ):
            if cells_of([*lines[-1], letter], theme) > cells and lines[-1]:
                lines.append([])
            lines[-1].append(letter)
        used = cells_of(lines[-1], theme)
    return [merge(line) for line in lines]


def cells_of(spans: Iterable[Span], theme: Theme) -> int:
    """The width of a line in cells, with the marks that the theme draws.

    Its text is measured in one piece: an accent, or what makes an emoji wide, may belong to the span before.
    """
    text_of = attrgetter("text")
    return width("".join(_written(merge(spans), theme, text_of) if theme.mark_cells else map(text_of, spans)))


def _written(line: Iterable[Span], theme: Theme, text_of: Callable[[Span], str]) -> Iterator[str]:
    """The texts of a merged line, with the theme's marks around each stretch that differs."""
    for role, group in groupby(line, key=attrgetter("role")):
        opening, closing = theme.marks if role == "differs" else ("", "")
        yield from (opening, *map(text_of, group), closing)


def merge(spans: Iterable[Span]) -> list[Span]:
    """Neighbours that look the same as one span; empty ones gone; a leading space stays outside what differs.

    ` and the` as a difference reads ` [and the]`, not `[ and the]`.
    """
    merged: list[Span] = []
    seen = (span for span in spans if span.text)
    for (role, piece), group in groupby(seen, key=lambda span: (span.role, span.piece)):
        text = "".join(span.text for span in group)
        begins = not merged or merged[-1].role != role or not merged[-1].text
        blank = len(text) - len(text.lstrip(" ")) if role == "differs" and begins else 0
        merged += [Span(text[:blank]), Span(text[blank:], role, piece=piece)]
    return [span for span in merged if span.text]


def _words(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Stretches that should not be broken: each begins with its space, and may change role on the way."""
    word: list[Span] = []
    for span in spans:
        for part in [span.text] if span.glued else _before_spaces(span.text):
            if part.startswith(" ") and word and not span.glued:
                yield word
                word = []
            word.append(replace(span, text=part))
    if word:
        yield word


def _before_spaces(text: str) -> Iterator[str]:
    """Text cut before each run of spaces: 'a b  c' as 'a', ' b', '  c'."""
    start = 0
    for at in range(1, len(text)):
        if text[at] == " " and text[at - 1] != " ":
            yield text[start:at]
            start = at
    if text[start:]:
        yield text[start:]


def paint(line: Iterable[Span], theme: Theme) -> str:
    """A line as a string, with the theme's marks around each stretch that differs."""
    return "".join(_written(line, theme, lambda span: theme.paint(span.text, span.role, piece=span.piece)))


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


def tail(spans: Sequence[Span], cells: int, dots: str, theme: Theme) -> Sequence[Span]:
    """The last of some spans, as many as fit, with dots before them where others are left out."""
    if cells_of(spans, theme) <= cells:
        return spans
    start = len(spans)
    while start and cells_of([Span(dots), *spans[start - 1 :]], theme) <= cells:
        start -= 1
    return [Span(dots, "note"), *spans[start:]]


def flush_right(text: str, cells: int) -> str:
    """Text with spaces before it, up to a width in cells."""
    return " " * (cells - width(text)) + text


def token_spans(texts: Sequence[str], same: Sequence[bool], terminal: Terminal) -> list[Span]:
    """One span a token. A fragment of a character or emoji has an empty one; what completes it differs if any did.

    Of the tokens that make up a word every other is a `piece`.
    """
    spans: list[Span] = []
    before, piece, pending = "", False, False
    for text, whole, is_same in zip(texts, whole_emoji(texts), same, strict=True):
        pending = pending or not is_same
        written = visible(text, terminal) if text == whole else shown(whole, terminal)  # a space before one is no token
        if whole:
            piece = not piece and before[-1:].isalnum() and whole[0].isalnum()
            before = whole
        spans.append(Span(written, "differs" if pending else "agrees", piece=piece))
        pending = pending and not whole
    return spans
