"""A page of a lesson: headings, sentences, tables and heat maps, as lines for one terminal.

No torch here: a heat map is given as lists of numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from wcwidth import width

from layer_decoding.terminal.columns import prose
from layer_decoding.terminal.shades import CHANCE_ROLES, CHANCES, chance_level, chance_mark
from layer_decoding.terminal.spans import Span, cells_of, flush_right, merge, pad, paint, wrap
from layer_decoding.terminal.theme import Role, Terminal

Matrix = Sequence[Sequence[float]]
GAP = 2
CELL = 2  # what a weight takes in a heat map, so that it is about as wide as high


class Page:
    """Lines of a lesson, as they come, for one terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.lines: list[str] = []

    def heading(self, text: str) -> None:
        """What comes next, set apart by an empty line."""
        if self.lines:
            self.lines.append("")
        self.lines += prose([Span(text, "heading")], self.terminal)

    def say(self, text: str) -> None:
        """A few sentences, wrapped."""
        self.lines += prose([Span(text)], self.terminal)

    def table(self, rows: Sequence[Sequence[str]], *, numbers: bool = False) -> None:
        """A heading row and rows under it; `numbers` are flush right. Columns that do not fit go below the others."""
        cells = [[column[i] for column in columns(rows, numbers=numbers)] for i in range(len(rows))]
        for group in self._groups(cells[0]):
            for row in cells:
                role: Role = "heading" if row is cells[0] else "plain"
                self._put([Span("  ".join(row[column] for column in group).rstrip(), role)])

    def steps(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Steps of a computation: shape in symbols, shape in numbers, formula."""
        self.listing([("shape", "here", "step"), *rows])

    def listing(self, rows: Sequence[Sequence[str]]) -> None:
        """A heading row and rows under it; what is long in the last column goes on under itself."""
        *aligned, _ = columns(rows, numbers=False)
        for index, row in enumerate(rows):
            label = "".join(f"{column[index]}  " for column in aligned)
            role: Role = "heading" if row is rows[0] else "plain"
            room = None if self.terminal.width is None else max(1, self.terminal.width - width(label))
            for number, line in enumerate(wrap([Span(row[-1], role)], room, self.terminal.theme)):
                first = Span(label, role) if number == 0 else Span(" " * width(label))
                self.lines.append(paint(merge([first, *line]), self.terminal.theme).rstrip(" "))

    def heat_map(self, weights: Matrix, labels: Sequence[str], *, causal: bool = False) -> None:
        """One matrix [P, P] with each row's strongest weight beside it; `causal` leaves what may not be seen blank."""
        strongest = [max(range(len(row)), key=row.__getitem__) for row in weights]
        notes = [f"{row[at]:.0%} {labels[at]}" for row, at in zip(weights, strongest, strict=True)]
        self._maps([("", weights)], labels, notes, causal=causal)

    def heat_maps(self, titled: Sequence[tuple[str, Matrix]], labels: Sequence[str]) -> None:
        """Several causal matrices [P, P], as many beside each other as fit, in rows of about the same length."""
        room = None if self.terminal.width is None else self.terminal.width + GAP - _room(labels)
        fits = len(titled) if room is None else max(1, room // _cells(titled, len(labels)))
        lines = -(-len(titled) // fits)
        per_line = -(-len(titled) // lines)
        for start in range(0, len(titled), per_line):
            self._maps(titled[start : start + per_line], labels, [""] * len(labels), causal=True)

    def legend(self) -> None:
        """What the shades mean, each painted as itself."""
        spans = [Span("A row's weights add up to 100%:")]
        for said, least in [(f"under {CHANCES[0]:.0%}", 0.0), *((f"from {least:.0%}", least) for least in CHANCES)]:
            mark = replace(self._shade(least), glued=True)
            spans += [Span(f" {said}"), Span(" ", glued=True), mark, Span(",", glued=True)]
        self.lines += prose([*spans[:-1], Span(".", glued=True)], self.terminal)

    def _maps(
        self, titled: Sequence[tuple[str, Matrix]], labels: Sequence[str], notes: Sequence[str], *, causal: bool
    ) -> None:
        count = shown = len(labels)
        if self.terminal.width is not None:
            shown = min(count, max(1, (self.terminal.width - _room(labels)) // CELL))
        first, each = count - shown, _cells(titled, shown)
        if first:
            self.say(f"(The last {shown} of {count} tokens; a wider window shows more.)")
        heads = "".join(pad(title, each) for title, _ in titled).rstrip()
        if heads:
            self._put([Span(" " * _room(labels) + heads, "heading")])
        for row in range(first, count):
            spans = [Span(pad(labels[row], _room(labels)))]
            for _, matrix in titled:
                spans += [self._cell(matrix, row, column, causal=causal) for column in range(first, count)]
                spans.append(Span(" " * (each - shown * CELL)))
            cells = cells_of(spans, self.terminal.theme) + width(notes[row])
            fits = self.terminal.width is None or cells <= self.terminal.width
            self._put([*spans, Span(notes[row])] if fits else spans[:-1])

    def _cell(self, matrix: Matrix, row: int, column: int, *, causal: bool) -> Span:
        return Span(" " * CELL) if causal and column > row else self._shade(matrix[row][column])

    def _shade(self, weight: float) -> Span:
        level = chance_level(weight)
        if level == 0:
            return Span(self.terminal.glyphs.space * CELL, "note")
        return Span(chance_mark(level, self.terminal) * CELL, CHANCE_ROLES[level])

    def _groups(self, cells: Sequence[str]) -> Iterator[list[int]]:
        """Columns that fit beside each other, the first in every group."""
        group = [0]
        for column in range(1, len(cells)):
            wide = sum(width(cells[i]) + 2 for i in group) + width(cells[column])
            if len(group) > 1 and self.terminal.width is not None and wide > self.terminal.width:
                yield group
                group = [0]
            group.append(column)
        yield group

    def _put(self, spans: Sequence[Span]) -> None:
        self.lines += [
            paint(line, self.terminal.theme).rstrip(" ")
            for line in wrap(spans, self.terminal.width, self.terminal.theme)
        ]


def columns(rows: Sequence[Sequence[str]], *, numbers: bool) -> list[list[str]]:
    """The columns of a table, each padded to its widest cell; all but the first flush right if they are numbers."""
    padded = []
    for index, column in enumerate(zip(*rows, strict=True)):
        cells = max(map(width, column))
        padded.append([flush_right(cell, cells) if numbers and index else pad(cell, cells) for cell in column])
    return padded


def _room(labels: Sequence[str]) -> int:
    """The cells that row labels take, with the space after them."""
    return max(map(width, labels)) + GAP


def _cells(titled: Sequence[tuple[str, Matrix]], shown: int) -> int:
    """The cells that each heat map takes beside others, its title and the space after it included."""
    return max([shown * CELL, *(width(title) for title, _ in titled)]) + GAP
