"""The layer table: layers down, steps across, a cell each; cut into panels at the terminal's width.

A cell is the layer's likeliest token or one number of the layer, shaded by that token's probability.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from wcwidth import width

from layer_decoding.errors import UsageError
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.numbers import (
    CHANCE_ROLES,
    CHOSEN,
    bits,
    chance_legend,
    chance_level,
    chance_mark,
    percent,
)
from layer_decoding.terminal.pieces import Pieces, escape, token_texts
from layer_decoding.terminal.spans import Span, flush_right, labelled, pad, prose, shorten
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.rows import compare, settling

Measure = Literal["probability", "entropy", "kl", "rank"]
_LABEL = "Layer"
_FRAME = 2  # cells beside a cell's text: the mark that stands in for its shade, and the star
_MOST_TOKEN = 16  # cells: a longer token is shortened
_LEAST_TOKEN = 4
_MOST_HEAD = 8  # cells: a token over a column of numbers


def _probabilities(row: LayerRow) -> list[float]:
    """Of its likeliest token, at each step."""
    return [math.exp(nats) for nats in row.logprob_nats or ()]


# How the legend calls a number, and what a row's cells say.
_NUMBERS: dict[Measure, tuple[str, Callable[[LayerRow], Sequence[str]]]] = {
    "probability": ("the probability of its layer's likeliest token", lambda row: [*map(percent, _probabilities(row))]),
    "entropy": ("the entropy of its layer's prediction in bits", lambda row: [*map(bits, row.entropy_bits or ())]),
    "kl": ("KL(last layer || its layer) in bits", lambda row: [*map(bits, row.kl_to_final_bits or ())]),
    "rank": ("its layer's rank of the last layer's token", lambda row: [*map(str, row.final_token_rank or ())]),
}


@dataclass(frozen=True)
class _Cell:
    """A text, the level of probability that shades it, and whether the token is the last layer's too."""

    text: str
    level: int
    agrees: bool


@dataclass(frozen=True)
class _Column:
    """One step: what stands over it, and a cell a row, None where that row's text has ended."""

    heads: tuple[str, ...]
    cells: tuple[_Cell | None, ...]

    @cached_property
    def width(self) -> int:
        """In cells, the frame included."""
        return _FRAME + max(map(width, [*self.heads, *(cell.text for cell in self.cells if cell is not None)]))


def render_table(
    decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, measure: Measure | None = None
) -> list[str]:
    """The prompt, the table and its legend, a string a line. `decoding` must have been measured.

    `measure` puts a number in the place of the token. Raises UsageError where the terminal is too narrow for one
    column, and where own context has no such measure.
    """
    if measure in ("kl", "rank") and decoding.context == "own":
        raise UsageError(f"Own context has no {measure}: the last layer does not read the other layers' texts.")
    table = _Table(decoding, pieces, terminal, measure)
    lines = labelled("Prompt:", [Span(" " + terminal.written(escape(prompt, terminal.glyphs.newline)))], terminal)
    for panel in table.panels():
        lines += ["", *table.heads(panel), *table.rows(panel)]
    lines.append("")
    for note in _notes(decoding, terminal, measure):
        lines += [line.rstrip(" ") for line in prose(note, terminal)]
    return lines


class _Table:
    """A decoding's columns, and the lines of any stretch of them."""

    def __init__(self, decoding: LayerDecoding, pieces: Pieces, terminal: Terminal, measure: Measure | None) -> None:
        self.decoding, self.pieces, self.terminal = decoding, pieces, terminal
        self.place = pad if measure is None else flush_right
        self.most_token = self._most_token()
        over: list[str] = []
        if measure is not None and decoding.context == "shared":  # in own context positions do not correspond
            over = [shorten(token, _MOST_HEAD, terminal.glyphs.dots) for token in self._tokens(decoding.final_row)]
        rows = [self._cells(row, measure) for row in decoding.rows]
        self.columns = [
            _Column((str(step), *over[step - 1 : step]), cells) for step, cells in enumerate(zip_longest(*rows), 1)
        ]

    def panels(self) -> list[list[_Column]]:
        """The columns in as few stretches as fit the terminal, of about equal width; None: a single one."""
        cells = self.terminal.width
        if cells is None:
            return [self.columns]
        panels = self._filled(cells)
        while cells and len(narrower := self._filled(cells - 1)) == len(panels):
            panels, cells = narrower, cells - 1
        return panels

    def _filled(self, cells: int) -> list[list[_Column]]:
        """The columns in stretches, each of as many as fit into so many cells, and of one at least."""
        panels: list[list[_Column]] = []
        used = 0
        for column in self.columns:
            used += 1 + column.width
            if not panels or used > cells:
                panels.append([])
                used = len(_LABEL) + 1 + column.width
            panels[-1].append(column)
        return panels

    def heads(self, columns: Sequence[_Column]) -> list[str]:
        """The numbers of the steps, and the tokens that stand over them."""
        lines = []
        for label, number in zip((_LABEL, ""), range(len(columns[0].heads)), strict=False):
            texts = [f" {self.place(column.heads[number], column.width - _FRAME)} " for column in columns]
            lines.append(self.terminal.theme.paint(" ".join([pad(label, len(_LABEL)), *texts]).rstrip(" "), "heading"))
        return lines

    def rows(self, columns: Sequence[_Column]) -> list[str]:
        """A line a layer."""
        lines = []
        for number, row in enumerate(self.decoding.rows):
            label = self.terminal.theme.paint(f"{row.layer:>{len(_LABEL)}}", "heading")
            cells = [self._painted(column.cells[number], column.width) for column in columns]
            lines.append(" ".join([label, *cells]).rstrip(" "))
        return lines

    def _painted(self, cell: _Cell | None, cells: int) -> str:
        """A cell in its column's width and its shade."""
        if cell is None:
            return " " * cells
        text = cell.text if self.place is pad else self.place(cell.text, cells - _FRAME)
        framed = chance_mark(cell.level, self.terminal) + text + (CHOSEN if cell.agrees else "")
        return self.terminal.theme.paint(pad(framed, cells), CHANCE_ROLES[cell.level])

    def _cells(self, row: LayerRow, measure: Measure | None) -> list[_Cell]:
        texts = self._tokens(row) if measure is None else _NUMBERS[measure][1](row)
        levels = map(chance_level, _probabilities(row))
        return [_Cell(*cell) for cell in zip(texts, levels, compare(row, self.decoding)[0], strict=True)]

    def _tokens(self, row: LayerRow) -> list[str]:
        """A row's tokens, none wider than a column may be."""
        glyphs = self.terminal.glyphs
        texts = map(self.terminal.written, token_texts(row.ids, self.pieces, glyphs))
        return [shorten(text, self.most_token, glyphs.dots) for text in texts]

    def _most_token(self) -> int:
        """How many cells a token may take."""
        if self.terminal.width is None:
            return _MOST_TOKEN
        frame = len(_LABEL) + 1 + _FRAME
        if self.terminal.width < frame + _LEAST_TOKEN:
            raise UsageError(
                f"The table needs {frame + _LEAST_TOKEN} cells for one column, the width is {self.terminal.width};"
                " make it wider."
            )
        return min(_MOST_TOKEN, self.terminal.width - frame)


def _notes(decoding: LayerDecoding, terminal: Terminal, measure: Measure | None) -> list[list[Span]]:
    """The legend, and where the text settles: one list of spans a line."""
    last = decoding.layer_count
    cell, it = "its layer's likeliest token", "it is"
    if measure is not None:
        cell, it = _NUMBERS[measure][0], "its likeliest token is"
    if decoding.context == "own":
        lines = [
            [Span("Each row is a text of its layer's own: what the model cut off after that block writes.")],
            [Span(f"A cell is {cell}; {CHOSEN} where layer {last}'s text has the likeliest token too, in this order.")],
        ]
    else:
        where = f"at that step of layer {last}'s text"
        lines = [[Span(f"A cell is {cell} {where}; {CHOSEN} where {it} layer {last}'s.")]]
    lines.append(chance_legend(terminal))
    if decoding.settles_at:
        lines.append([Span(settling(decoding.settles_at, terminal.glyphs))])
    return lines
