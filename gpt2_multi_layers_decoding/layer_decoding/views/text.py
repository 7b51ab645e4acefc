"""What every layer predicted for a text, as lines: a passage with the predictions under its tokens, then the means.

Both are tables of columns, cut into panels at the terminal's width. A prediction that differs from the last
layer's is painted as such; one that is the text's own token has a star.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wcwidth import width

from layer_decoding.results.text import LayerPredictions, LayerSummary, Passage, TextMeasures
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.spans import Span, cells_of, flush_right, merge, pad, paint, prose, shorten
from layer_decoding.terminal.theme import MARK_CELLS, Glyphs, Terminal

CORRECT = "*"
_MOST_TOKEN = 16  # cells: a longer token is shortened where there is a width to keep
Cell = list[Span]


@dataclass(frozen=True)
class _Column:
    """A cell for the head and one a layer."""

    cells: tuple[Cell, ...]

    def width(self) -> int:
        """In cells, marks included."""
        return max(map(cells_of, self.cells))


def render_text(measures: TextMeasures, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The whole answer, a string a line, no newline at the end of any."""
    lines = []
    if measures.passage.ids:
        lines += [*_passage_lines(measures, pieces, terminal)]
        for spans in _passage_notes(measures):
            lines += prose(spans, terminal)
        lines.append("")
    lines += prose([Span(_heading(measures), "heading")], terminal)
    labels = ["", *(f"Layer {summary.layer}:" for summary in measures.layers)]
    for panel in _panels(_number_columns(measures.layers), _room(labels, terminal)):
        lines += _table(labels, panel, terminal)
    for note in _number_notes(measures.layer_count):
        lines += prose([Span(note)], terminal)
    return lines


# ---------------------------------------------------------------- the passage
def _passage_lines(measures: TextMeasures, pieces: Pieces, terminal: Terminal) -> Iterator[str]:
    """The passage in panels, each under a line that says which tokens it holds."""
    passage = measures.passage
    labels = ["Text:", *(f"Layer {row.layer}:" for row in passage.predictions)]
    columns = _token_columns(passage, pieces, terminal, _room(labels, terminal))
    first = passage.first
    for panel in _panels(columns, _room(labels, terminal)):
        span = f"Token {first:,}" if len(panel) == 1 else f"Tokens {first:,} to {first + len(panel) - 1:,}"
        yield from prose([Span(f"{span} of {measures.token_count:,}", "note")], terminal)
        yield from _table(labels, panel, terminal)
        yield ""
        first += len(panel)


def _token_columns(passage: Passage, pieces: Pieces, terminal: Terminal, room: int | None) -> list[_Column]:
    """A column a token: the text's own, and under it each layer's prediction."""
    most = None if room is None else max(1, min(_MOST_TOKEN, room - 1 - MARK_CELLS - len(CORRECT)))
    heads = [[Span(text, "heading")] for text in _texts(passage.ids, pieces, terminal.glyphs, most)]
    rows = [_row_cells(row, passage, pieces, terminal.glyphs, most) for row in passage.predictions]
    return [_Column(cells) for cells in zip(heads, *rows, strict=True)]


def _row_cells(row: LayerPredictions, passage: Passage, pieces: Pieces, glyphs: Glyphs, most: int | None) -> list[Cell]:
    """One layer's predictions, nothing where there is none."""
    texts = iter(_texts([token for token in row.ids if token is not None], pieces, glyphs, most))
    cells: list[Cell] = []
    for agrees, correct in zip(passage.agrees(row), passage.correct(row), strict=True):
        if agrees is None:
            cells.append([])
            continue
        cells.append([Span(next(texts), "plain" if agrees else "differs"), Span(CORRECT if correct else "")])
    return cells


def _texts(ids: Sequence[int], pieces: Pieces, glyphs: Glyphs, most: int | None) -> list[str]:
    """Tokens as each looks by itself. One that begins a word keeps its space, so that word beginnings are indented."""
    texts = token_texts(ids, pieces, glyphs)
    return texts if most is None else [shorten(text, most, glyphs.dots) for text in texts]


def _passage_notes(measures: TextMeasures) -> list[list[Span]]:
    """How to read the passage."""
    last = measures.layer_count
    notes = [
        [Span("Under each token of the text stands what each layer, having read the text before it, predicted.")],
        [Span("Tokens marked "), Span("so", "differs"), Span(f" differ from layer {last}'s prediction;")],
    ]
    notes[-1].append(Span(f" {CORRECT} marks those that are the text's own."))
    if None in measures.passage.final.ids:
        notes.append([Span("The first token of a window is read but not predicted.")])
    return notes


# ---------------------------------------------------------------- the means
def _heading(measures: TextMeasures) -> str:
    """What the means are over."""
    windows = -(-measures.token_count // measures.window)
    how = "read in one window" if windows == 1 else f"read in {windows:,} windows of {measures.window:,}"
    return f"Means over {measures.scored_count:,} predicted tokens of {measures.token_count:,}, {how}:"


def _number_columns(summaries: Sequence[LayerSummary]) -> list[_Column]:
    """A column a number, flush right under its name."""
    texts = {
        "agrees": [f"{summary.agreeing_share:.1%}" for summary in summaries],
        "correct": [f"{summary.correct_share:.1%}" for summary in summaries],
        "entropy": [f"{summary.mean_entropy_bits:.2f}" for summary in summaries],
        "KL": [f"{summary.mean_kl_to_final_bits:.2f}" for summary in summaries],
        "perplexity": [in_short(summary.perplexity) for summary in summaries],
    }
    columns = []
    for name, numbers in texts.items():
        cells = max(map(width, [name, *numbers]))
        placed = [[Span(flush_right(text, cells))] for text in numbers]
        columns.append(_Column(([Span(flush_right(name, cells), "heading")], *placed)))
    return columns


def in_short(number: float) -> str:
    """A number of any size in at most nine cells.

    >>> [in_short(x) for x in (1.0, 23.456, 1234.5, 2.5e9)]
    ['1.0', '23.5', '1,234', '2.5e+09']
    """
    return f"{number:.1f}" if number < 999.95 else f"{number:,.0f}" if number < 1e7 else f"{number:.1e}"


def _number_notes(last: int) -> list[str]:
    """What the columns mean."""
    return [
        f"agrees: the likeliest token is layer {last}'s; correct: it is the text's own.",
        f"entropy of the prediction and KL from layer {last}'s to it are in bits.",
        "perplexity: exp of the mean of - log p(the text's own token).",
    ]


# ---------------------------------------------------------------- panels
def _room(labels: Sequence[str], terminal: Terminal) -> int | None:
    """The cells beside the labels."""
    return None if terminal.width is None else terminal.width - max(map(width, labels))


def _panels(columns: Sequence[_Column], room: int | None) -> list[list[_Column]]:
    """The columns in stretches that fit, a space before each; one stretch where nothing is to be wrapped."""
    panels: list[list[_Column]] = [[]]
    used = 0
    for column in columns:
        cells = 1 + column.width()
        if panels[-1] and room is not None and used + cells > room:
            panels.append([])
            used = 0
        panels[-1].append(column)
        used += cells
    return panels


def _table(labels: Sequence[str], columns: Sequence[_Column], terminal: Terminal) -> list[str]:
    """A line a label, its cells in the columns' widths."""
    label_cells = max(map(width, labels))
    lines = []
    for number, label in enumerate(labels):
        cells = [_filled(column.cells[number], column.width(), terminal) for column in columns]
        lines.append(" ".join([terminal.theme.paint(pad(label, label_cells), "heading"), *cells]).rstrip(" "))
    return lines


def _filled(cell: Cell, cells: int, terminal: Terminal) -> str:
    """A painted cell in its column's width. Where colour stands for the marks, their cells are blank."""
    drawn = sum(map(len, terminal.theme.marks)) - MARK_CELLS
    marked = sum(span.role == "differs" for span in cell)
    return paint(merge(cell), terminal.theme) + " " * (cells - cells_of(cell) - drawn * marked)
