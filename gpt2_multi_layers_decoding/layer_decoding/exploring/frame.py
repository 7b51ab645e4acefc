"""The whole screen as lines of its width: the text, the board with the cell beside or under it, the branches."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from layer_decoding.exploring.board import QUESTIONS, Board
from layer_decoding.exploring.branches import branch_lines, compared_lines, text_lines
from layer_decoding.exploring.cell import LEAST_CELLS, candidate_lines, cell_lines, number_lines, own_lines
from layer_decoding.exploring.keys import MEANINGS
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.terminal.columns import Column, Line, fitted, heading, painted, side_by_side
from layer_decoding.terminal.pieces import Pieces, shown
from layer_decoding.terminal.spans import Span, merge, pad, shorten_left, wrap
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.table import level_by, step_columns

LEAST_WIDTH, LEAST_HEIGHT = 40, 12
_NOTHING: Line = ()
_HEADS = 2  # lines over the cells: the number of the step, and the text's token
_LABEL = "Layer "
_GAP = 2  # cells between the board and the cell beside it
_BESIDE = 72  # cells of a screen on which the cell has room beside the board
_MOST_OWN = 3  # lines of a layer's own text
_LEAST_MIDDLE = 6  # lines of the board, and of the cell under it
_LEAST_ROWS = 3
_LEAST_BELOW = 4  # lines of the cell under the board, where there is room
_ALWAYS = ("? keys", "q leave")
_KEYS = ("space write", "enter take", "1-9 candidate", "backspace back", "[ ] branch", "m measure", "t type", "g line")


@dataclass
class Frame:
    """Draws boards, and remembers what was drawn where: how far the board is scrolled, for the mouse."""

    pieces: Pieces
    terminal: Terminal
    first_step: int = 1
    first_row: int = 0
    top: int = 0  # the line of the first row of cells
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)  # step -> its cells, from and up to

    def lines(self, board: Board, width: int, height: int, busy: str = "") -> list[str]:
        """The screen, a string a line, none wider than it and at most as many as it has."""
        self.spans = {}
        if width < LEAST_WIDTH or height < LEAST_HEIGHT:
            said = f"The screen has {width} × {height} cells; make it at least {LEAST_WIDTH} × {LEAST_HEIGHT}."
            small = wrap([Span(shown(said, self.terminal))], width, self.terminal.theme)
            return [painted(line, self.terminal) for line in small][:height]
        lines = _help_lines() if board.helping else self._whole(board, width, height - 1, busy)
        footer: Line = [Span("any key goes back" if board.helping else _footer(width), "note")]
        whole = [*lines[: height - 1], *([_NOTHING] * (height - 1 - len(lines))), footer]
        return [painted(fitted(line, width, self.terminal), self.terminal) for line in whole]

    def cell_at(self, x: int, y: int, board: Board) -> tuple[int, int] | None:
        """The row and the step of the cell that is drawn at a place of the screen."""
        row = self.first_row + y - self.top
        step = next((step for step, (start, stop) in self.spans.items() if start <= x < stop), None)
        return (row, step) if step is not None and y >= self.top and row < len(board.layers) else None

    # ------------------------------------------------------------ its parts

    def _whole(self, board: Board, width: int, height: int, busy: str) -> list[Line]:
        """All but the footer: what stands under the board gives way to it on a low screen."""
        pieces, terminal, size = self.pieces, self.terminal, 0 if height < 16 else 1 if height < 30 else 2
        text = text_lines(board, pieces, terminal, width, (1, 2, 5)[size])
        said = self._said(board, width, busy, (2, 4, 4)[size])
        below = branch_lines(board, pieces, terminal, width, (1, 3, 8)[size])
        below += own_lines(board, pieces, terminal, width)[:_MOST_OWN]
        above = len(text) + 1
        below = [*below[: max(0, height - above - _LEAST_MIDDLE - len(said))], *said]
        room = height - above - len(below)
        middle = self._middle(board, width, room, above)[:room]
        return [*text, [], *middle, *([[]] * (room - len(middle))), *below]

    def _said(self, board: Board, width: int, busy: str, most: int) -> list[Line]:
        """What is asked, done or to be told: a line, or as many as a sentence takes."""
        if board.asked is not None:
            question = f"{QUESTIONS[board.asked]}: "
            typed = shorten_left(
                shown(board.typed, self.terminal), width - len(question) - 1, self.terminal.glyphs.dots
            )
            return [[Span(question, "heading"), Span(typed), Span("_", "cursor")]]
        return list(wrap([Span(shown(board.message or busy, self.terminal))], width, self.terminal.theme)[:most])

    def _middle(self, board: Board, width: int, height: int, top: int) -> list[Line]:
        """The board and its cell; in their place two branches."""
        if board.comparing:
            return compared_lines(board, self.pieces, self.terminal, width)
        if width < _BESIDE:
            return self._over_cell(board, width, height, top)
        cells = max(LEAST_CELLS, min(width // 3, 48))
        left = self._board(board, width - cells - _GAP, height, top)
        right = cell_lines(board, self.pieces, self.terminal, cells, height)
        return [
            [*fitted(line, width - cells, self.terminal), *beside]
            for line, beside in zip_longest(left, right, fillvalue=_NOTHING)
        ]

    def _over_cell(self, board: Board, width: int, height: int, top: int) -> list[Line]:
        """The board, and under it the cell, its candidates beside its numbers."""
        rows = min(len(board.layers), max(_LEAST_ROWS, height - _HEADS - 1 - _LEAST_BELOW))
        gap = [_NOTHING] if height > rows + _HEADS + 2 else []
        half = width // 2
        left = candidate_lines(board, self.pieces, self.terminal, half - 1)
        right = number_lines(board, width - half)
        cell = [[*fitted(a, half, self.terminal), *b] for a, b in zip_longest(left, right, fillvalue=_NOTHING)]
        return [*self._board(board, width, rows + _HEADS, top), *gap, *cell]

    def _board(self, board: Board, width: int, height: int, top: int) -> list[Line]:
        """As many layers and steps as fit, the cursor's among them."""
        rows = min(len(board.layers), height - _HEADS)
        self.first_row = min(max(self.first_row, board.row - rows + 1, 0), board.row, len(board.layers) - rows)
        self.top = top + _HEADS
        shown_rows = range(self.first_row, self.first_row + rows)
        labels = Column([[Span(_LABEL)], [], *(self._label(board, row) for row in shown_rows)], gap=0)
        columns = self._columns(board, width - labels.width, shown_rows)
        lines = side_by_side([labels, *columns])
        return [*([heading(line)] for line in lines[:_HEADS]), *lines[_HEADS:]]

    def _label(self, board: Board, row: int) -> Line:
        mark = ">" if row == board.row else " "
        return [Span(f"{mark}{board.layers[row]!s:>{len(_LABEL) - 2}}", "heading")]

    def _columns(self, board: Board, room: int, rows: range) -> list[Column]:
        """The steps that fit, each with the rows shown; where each is drawn is kept."""
        made: dict[int, Column] = {}
        every = [row for said in board.texts.branch.steps for row in said.rows]
        level_of = level_by(board.measure or BY_OPTION["probability"], every)

        def column(step: int) -> Column:
            if step not in made:
                made[step] = self._column(board, step, rows, level_of)
            return made[step]

        steps = window(lambda step: column(step).width, self.first_step, board.step, board.texts.branch.open_step, room)
        self.first_step, left = steps.start, len(_LABEL)
        for step in steps:
            self.spans[step] = (left, left + column(step).width)
            left += column(step).width
        return [column(step) for step in steps]

    def _column(self, board: Board, step: int, rows: range, level_of: Callable[[float], int]) -> Column:
        """A step: its number, the text's token unless it is not written yet, and the layers' cells."""
        said = board.texts.branch.steps[step - 1]
        (whole,) = step_columns(said, said.text_ids, self.pieces, self.terminal, board.measure, step, level_of)
        number, over, *cells = whole.cells
        if step == board.texts.branch.open_step:
            over = [Span(" " * len(merge(over)[0].text))]
        shown_cells = [cells[row] for row in rows]
        if step == board.step:
            here = board.row - rows.start
            shown_cells[here] = [replace(span, role="cursor") for span in shown_cells[here]]
        return replace(whole, cells=[number, over, *shown_cells])


def _help_lines() -> list[Line]:
    """The keys and what they do."""
    cells = max(len(keys) for keys, _ in MEANINGS)
    return [[Span(pad(keys, cells + _GAP), "heading"), Span(meaning)] for keys, meaning in MEANINGS]


def _footer(cells: int) -> str:
    """As many keys as fit, and always where the others are said and how to leave."""
    named: list[str] = []
    for keys in _KEYS:
        if len("  ".join([*named, keys, *_ALWAYS])) <= cells:
            named.append(keys)
    return "  ".join([*named, *_ALWAYS])


def window(width: Callable[[int], int], first: int, cursor: int, last: int, room: int) -> range:
    """The steps to show, from 1 to `last`, that fit into `room` with the cursor's among them.

    They begin at `first`, where they began before, if the cursor is among them then; they are scrolled no further than
    needed, and no room is left before the end that earlier steps could take.
    """
    start, stop, used = cursor, cursor + 1, width(cursor)
    while start > min(first, cursor) and used + width(start - 1) <= room:
        start, used = start - 1, used + width(start - 1)
    while stop <= last and used + width(stop) <= room:
        stop, used = stop + 1, used + width(stop)
    while start > 1 and used + width(start - 1) <= room:
        start, used = start - 1, used + width(start - 1)
    return range(start, stop)
