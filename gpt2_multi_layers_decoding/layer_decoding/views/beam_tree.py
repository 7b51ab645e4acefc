"""The search step by step, drawn as a tree: time runs down, every column holds one live beam.

A beam's likeliest child stays in its column, others move to columns that have become free; the line of a move
passes behind the columns between. What finished and what was dropped stands at the right of its step.
"""

from dataclasses import replace
from itertools import zip_longest

from layer_decoding.results.beam import BeamSearch, TraceBeam, TraceStep
from layer_decoding.terminal.columns import prose, wrapped
from layer_decoding.terminal.pieces import Pieces, visible
from layer_decoding.terminal.spans import Span, cells_of, paint, shorten, wrap
from layer_decoding.terminal.theme import LINES, Terminal
from layer_decoding.views.beam_columns import ROOT, Fork, Places, forks, going_on, place_beams

_GUTTER = 6  # cells for the step's number
_NARROWEST, _ENOUGH, _WIDEST = 9, 11, 16  # cells for a beam: a sum and a gap, a word, a long word
_LEAST_SIDE, _GOOD_SIDE = 18, 32  # cells for what finished and what was dropped: one of them, two
Line = list[Span]


def render_trace(search: BeamSearch, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The tree with its legend, or a list of the steps where the screen is too narrow for the columns."""
    cells = column_cells(terminal.width, search.settings.num_beams)
    drawing = _Drawing(search, pieces, terminal)
    lines = wrapped([Span("The search, step by step", "heading")], terminal)
    lines += _step_list(drawing, terminal) if cells is None else _Tree(drawing, terminal, cells).lines()
    lines.append("")
    for note in _legend(drawing, is_tree=cells is not None):
        lines += prose([Span(note)], terminal)
    return lines


def column_cells(screen: int | None, columns: int) -> int | None:
    """How wide each beam's column can be on a screen; None where not even narrow ones fit."""
    if screen is None:
        return _WIDEST
    most = (screen - _GUTTER - _LEAST_SIDE) // columns
    roomy = (screen - _GUTTER - _GOOD_SIDE) // columns
    return None if most < _NARROWEST else min(_WIDEST, max(roomy, min(most, _ENOUGH)))


class _Drawing:
    """How the parts of a search are written."""

    def __init__(self, search: BeamSearch, pieces: Pieces, terminal: Terminal) -> None:
        self.search, self.pieces, self.terminal = search, pieces, terminal
        self.steps = search.trace or ()
        self.ranks = {text.ids: text.rank for text in search.hypotheses}
        self.best = search.hypotheses[0].ids
        self.on_way, self.off_way = tuple(terminal.glyphs.beams)
        self.lines = dict(zip(LINES, terminal.glyphs.lines, strict=True))

    def token(self, beam: TraceBeam) -> str:
        """The newest token of a beam, with its leading space."""
        return visible(self.pieces.inside(beam.ids[-1]), self.terminal)

    def node(self, beam: TraceBeam, cells: int) -> Span:
        """A mark and the newest token, at most so many cells; the way to rank 1 has a mark of its own."""
        leads = beam.ids == self.best[: len(beam.ids)]
        text = shorten(self.token(beam), cells - 1, self.terminal.glyphs.dots)
        return Span((self.on_way if leads else self.off_way) + text, "heading" if leads else "plain")

    def left_out(self, step: TraceStep, names: list[str], cells: int | None) -> list[Line]:
        """What finished and what was dropped at a step, each after the name of the beam it came from; wrapped."""
        line: Line = []
        for state in ("finished", "dropped"):
            beams = [beam for beam in step.beams if beam.state == state]
            if beams:
                line.append(Span(f"{' ' if line else ''}{state}:", "note"))
            for beam in beams:
                name, total = f" {names[beam.parent]}", f" {beam.logprob_nats:.2f}"
                token = self.token(beam).lstrip(" ")
                if cells is not None:
                    token = shorten(token, max(1, cells - len(f"{name} {total},")), self.terminal.glyphs.dots)
                line += [Span(name, "note"), Span(f" {token}{total}", "note", glued=True)]
                if beam.ids in self.ranks:
                    line += [Span(" rank", "note"), Span(f" {self.ranks[beam.ids]}", "note", glued=True)]
                if beam is not beams[-1]:
                    line.append(Span(",", "note", glued=True))
        return wrap(line, cells, self.terminal.theme) if line else []


class _Tree:
    """Lines of a gutter, the columns, and what left the search at that step."""

    def __init__(self, drawing: _Drawing, terminal: Terminal, cells: int) -> None:
        self.drawing, self.terminal, self.cells = drawing, terminal, cells
        self.columns = drawing.search.settings.num_beams
        self.letters = [column_name(column) for column in range(self.columns)]
        self.places = [ROOT, *place_beams(drawing.steps, self.columns)]
        left = _GUTTER + self.columns * cells
        self.side_cells = None if terminal.width is None else terminal.width - left

    def lines(self) -> list[str]:
        """The whole tree, from the prompt down."""
        header = f"{'step':<{_GUTTER}}" + "".join(f"{letter:<{self.cells}}" for letter in self.letters)
        lines: list[Line] = [[Span(header.rstrip(), "heading")], [Span(" " * _GUTTER + self.drawing.on_way, "heading")]]
        lines += self._connectors(0)
        for number, step in enumerate(self.drawing.steps, 1):
            lines += self._block(number, step)
        return [paint(without_trailing_blanks(line), self.terminal.theme) for line in lines]

    def _block(self, number: int, step: TraceStep) -> list[Line]:
        """A step: tokens, running sums and the lines to the next step; beside them what left the search."""
        beams = {self.places[number][beam.ids]: beam for beam in step.live}
        following = self.places[number + 1] if number < len(self.drawing.steps) else {}
        live_on = going_on(self.places[number], following)
        tokens = self._line({column: [self.drawing.node(beam, self.cells - 1)] for column, beam in beams.items()})
        tokens[0] = Span(f"{step.step:>4}  ")
        bar = self.drawing.lines["ud"]
        sums: dict[int, Line] = {}
        for column, beam in beams.items():
            sums[column] = [Span(bar if column in live_on else " "), Span(f"{beam.logprob_nats:.2f}", "note")]
        upper, lower = [tokens, self._line(sums)], self._connectors(number)
        if number == len(self.drawing.steps):
            lower = self._ranks(beams)
        names = ["a"] if number == 1 else self._names(self.drawing.steps[number - 2], self.places[number - 1])
        side = self.drawing.left_out(step, names, self.side_cells)
        while len(upper) + len(lower) < len(side):
            upper.append(self._line({column: [Span(bar)] for column in live_on}))
        blank: Line = []
        return [[*left, *right] for left, right in zip_longest([*upper, *lower], side, fillvalue=blank)]

    def _names(self, step: TraceStep, places: Places) -> list[str]:
        """The letters of a step's live beams, in their order."""
        return [self.letters[places[beam.ids]] for beam in step.live]

    def _ranks(self, beams: dict[int, TraceBeam]) -> list[Line]:
        """Under the last step, which hypothesis each beam has become."""
        ranks = self.drawing.ranks
        found = {column: [Span(f" rank {ranks[beam.ids]}")] for column, beam in beams.items() if beam.ids in ranks}
        return [self._line(found)] if found else []

    def _connectors(self, number: int) -> list[Line]:
        """The lines from a step's beams to those of the next."""
        if number >= len(self.drawing.steps):
            return []
        return [self._fork(fork) for fork in forks(self.places[number], self.places[number + 1])]

    def _fork(self, fork: Fork) -> Line:
        drawn = [Span(" " * _GUTTER)]
        for column in range(self.columns):
            filler = self.drawing.lines["lr"] if fork.joins(column) else " "
            drawn.append(Span(self.drawing.lines[fork.directions(column)] + filler * (self.cells - 1)))
        return drawn

    def _line(self, columns: dict[int, Line]) -> Line:
        """A line with something at the beginning of some of the columns."""
        line = [Span(" " * _GUTTER)]
        for column in range(self.columns):
            cell = columns.get(column, [])
            line += [*cell, Span(" " * (self.cells - cells_of(cell, self.terminal.theme)))]
        return line


def without_trailing_blanks(line: Line) -> Line:
    """A line of spans up to its last character that is no space."""
    kept = list(line)
    while kept and not kept[-1].text.rstrip(" "):
        kept.pop()
    return [*kept[:-1], replace(kept[-1], text=kept[-1].text.rstrip(" "))] if kept else []


def column_name(column: int) -> str:
    """a … z, then a1 … z1, and so on.

    >>> column_name(0), column_name(27)
    ('a', 'b1')
    """
    letter = "abcdefghijklmnopqrstuvwxyz"[column % 26]
    return letter + (str(column // 26) if column >= 26 else "")


def _step_list(drawing: _Drawing, terminal: Terminal) -> list[str]:
    """The same search as a list: every step's live beams, numbered, each with the number of its parent."""
    lines = []
    for step in drawing.steps:
        for number, beam in enumerate(step.live, 1):
            gutter = f"{step.step:>4}  " if number == 1 else " " * _GUTTER
            head = Span(f"{gutter}{number:>3} {beam.logprob_nats:>8.2f}  from {beam.parent + 1:>3}  ")
            lines += wrapped([head, drawing.node(beam, 20)], terminal)
        earlier = drawing.steps[step.step - 2].live if step.step > 1 else ()
        names = [str(number) for number in range(1, max(len(earlier), 1) + 1)]
        room = None if terminal.width is None else terminal.width - _GUTTER - 1
        for line in drawing.left_out(step, names, room):
            lines.append(" " * (_GUTTER + 1) + paint(line, terminal.theme))
    return lines


def _legend(drawing: _Drawing, *, is_tree: bool) -> list[str]:
    """How to read it, and why it may have ended early."""
    way = f"{drawing.on_way} is on the way to rank 1"
    if is_tree:
        how = f"Each column holds a beam, lines lead down to its children, {way}. Under a token stands the sum so far."
        left = "At the right, after the column it came from: what ended in end-of-text, and what was less likely."
    else:
        how = f"The live beams of each step, their sums so far and which beam of the step before each came from; {way}."
        left = "Under them what ended in end-of-text and what was less likely. A wider screen shows a tree."
    notes = [f"{how} {left}"]
    if len(drawing.steps) < drawing.search.settings.max_new_tokens and not drawing.search.interrupted:
        notes.append("It ended here because no live beam could still overtake the last of the finished texts.")
    return notes
