"""What stands beside what on a screen of a width: columns cut into panels, a text beside its numbers or under them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from wcwidth import width

from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.spans import Span, cells_of, merge, paint, shorten, wrap
from layer_decoding.terminal.theme import PLAIN, Terminal, Theme

Line = Sequence[Span]
_LEAST_TEXT = 24  # cells: a text with less room beside its numbers goes under them


@dataclass(frozen=True)
class Column:
    """Cells under each other, one a line, with a gap before them; flush left, or `right`."""

    cells: Sequence[Line]
    gap: int = 1
    right: bool = False
    theme: Theme = PLAIN  # whose marks may stand in the cells

    @cached_property
    def width(self) -> int:
        """In cells of the screen, marks and the gap included."""
        return self.gap + max(cells_of(cell, self.theme) for cell in self.cells)


def panels(columns: Sequence[Column], room: int | None) -> list[list[Column]]:
    """The columns in stretches, each of as many as fit beside each other, and of one at least; None: a single one."""
    stretches: list[list[Column]] = []
    used = 0
    for column in columns:
        used += column.width
        if not stretches or (room is not None and used > room):
            stretches.append([])
            used = column.width
        stretches[-1].append(column)
    return stretches


def even_panels(columns: Sequence[Column], room: int | None) -> list[list[Column]]:
    """As few stretches as `panels` needs, of about equal width."""
    stretches = panels(columns, room)
    while room and len(narrower := panels(columns, room - 1)) == len(stretches):
        stretches, room = narrower, room - 1
    return stretches


def side_by_side(columns: Sequence[Column]) -> list[list[Span]]:
    """A line a row of cells, each filled up to its column's width."""
    lines = []
    for cells in zip(*(column.cells for column in columns), strict=True):
        filled = [_filled(cell, column) for cell, column in zip(cells, columns, strict=True)]
        lines.append([span for parts in filled for span in parts])
    return lines


def _filled(cell: Line, column: Column) -> list[Span]:
    """A cell with blanks beside it."""
    parts = merge(cell)
    missing = column.width - column.gap - cells_of(parts, column.theme)
    gap, blank = Span(" " * column.gap), Span(" " * missing)
    return [gap, blank, *parts] if column.right else [gap, *parts, blank]


def table(columns: Sequence[Column], terminal: Terminal, heads: int = 0) -> list[str]:
    """Columns beside each other, a string a line; the first few lines are headings from end to end."""
    lines = side_by_side(columns)
    headings = [painted([heading(line)], terminal) for line in lines[:heads]]
    return headings + [painted(line, terminal) for line in lines[heads:]]


def heading(line: Line) -> Span:
    """A line as one heading, without the blanks at its end."""
    return Span("".join(span.text for span in line).rstrip(" "), "heading")


def painted(line: Line, terminal: Terminal) -> str:
    """A line as a string, without the blanks at its end."""
    return paint(merge(line), terminal.theme).rstrip(" ")


def beside(head: Line, text: Line, terminal: Terminal, gap: int = 0, under: int | None = None) -> list[str]:
    """A text wrapped beside what stands before it; where that leaves little room, `under` it, indented so far."""
    start, above = [*head, Span(" " * gap)], []
    indent = cells_of(start, terminal.theme)
    if terminal.width is not None and under is not None and terminal.width - indent < _LEAST_TEXT:
        start, above, indent = [Span(" " * under)], wrapped(head, terminal), under
    first, *others = wrap(text, None if terminal.width is None else terminal.width - indent, terminal.theme)
    lines = [[*start, *first], *([Span(" " * indent), *line] for line in others)]
    return above + [paint(merge(line), terminal.theme) for line in lines]


def labelled(label: str, text: Line, terminal: Terminal) -> list[str]:
    """A text wrapped beside a label, the following lines indented under the first."""
    return beside([Span(label, "heading")], text, terminal)


def prompt_lines(prompt: str, terminal: Terminal) -> list[str]:
    """The prompt, as every view begins."""
    return labelled("Prompt:", [Span(" " + shown(prompt, terminal))], terminal)


def prose(spans: Line, terminal: Terminal) -> list[str]:
    """A sentence wrapped as sentences are: no line begins with the space before its first word."""
    first, *others = wrap(spans, terminal.width, terminal.theme)
    unindented = [[replace(line[0], text=line[0].text.lstrip(" ")), *line[1:]] for line in others]
    return [paint(line, terminal.theme) for line in [first, *unindented]]


def wrapped(line: Line, terminal: Terminal) -> list[str]:
    """A line as it is, or in several where it is wider than the terminal."""
    return [paint(part, terminal.theme) for part in wrap(line, terminal.width, terminal.theme)]


def fitted(line: Line, cells: int, terminal: Terminal) -> list[Span]:
    """A line in exactly so many cells of the screen: cut, with dots at its end, or filled with blanks."""
    parts, dots = merge(line), terminal.glyphs.dots
    while parts and (over := cells_of(parts, terminal.theme) - cells) > 0:
        *parts, last = parts
        room = width(last.text) - over
        if room >= width(dots):
            parts.append(replace(last, text=shorten(last.text, room, dots)))
    return [*parts, Span(" " * (cells - cells_of(parts, terminal.theme)))]
