"""What every layer predicted for a text, as lines: a passage with the predictions under its tokens, then the means.

Both are tables of columns, cut into panels at the terminal's width. A prediction that differs from the last
layer's is painted as such; one that is the text's own token has a star.
"""

from collections.abc import Iterator, Sequence

from wcwidth import width

from layer_decoding.results.text import LayerPredictions, LayerSummary, Passage, TextMeasures
from layer_decoding.terminal.columns import Column, panels, prose, table
from layer_decoding.terminal.numbers import in_short
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten
from layer_decoding.terminal.theme import CHOSEN, MARK_CELLS, Terminal

_MOST_TOKEN = 16  # cells: a longer token is shortened where there is a width to keep


def render_text(measures: TextMeasures, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The whole answer, a string a line, no newline at the end of any."""
    lines = []
    if measures.passage.ids:
        lines += [*_passage_lines(measures, pieces, terminal)]
        for spans in _passage_notes(measures):
            lines += prose(spans, terminal)
        lines.append("")
    lines += prose([Span(_heading(measures), "heading")], terminal)
    labels = _labels(["", *(f"Layer {summary.layer}:" for summary in measures.layers)])
    for panel in panels(_number_columns(measures.layers), _room(labels, terminal)):
        lines += table([labels, *panel], terminal)
    for note in _number_notes(measures.layer_count):
        lines += prose([Span(note)], terminal)
    return lines


# ---------------------------------------------------------------- the passage
def _passage_lines(measures: TextMeasures, pieces: Pieces, terminal: Terminal) -> Iterator[str]:
    """The passage in panels, each under a line that says which tokens it holds."""
    passage = measures.passage
    labels = _labels(["Text:", *(f"Layer {row.layer}:" for row in passage.predictions)])
    columns = _token_columns(passage, pieces, terminal, _room(labels, terminal))
    first = passage.first
    for panel in panels(columns, _room(labels, terminal)):
        span = f"Token {first:,}" if len(panel) == 1 else f"Tokens {first:,} to {first + len(panel) - 1:,}"
        yield from prose([Span(f"{span} of {measures.token_count:,}", "note")], terminal)
        yield from table([labels, *panel], terminal)
        yield ""
        first += len(panel)


def _token_columns(passage: Passage, pieces: Pieces, terminal: Terminal, room: int | None) -> list[Column]:
    """A column a token: the text's own, and under it each layer's prediction."""
    most = None if room is None else max(1, min(_MOST_TOKEN, room - 1 - MARK_CELLS - len(CHOSEN)))
    heads = [[Span(text, "heading")] for text in _texts(passage.ids, pieces, terminal, most)]
    rows = [_row_cells(row, passage, pieces, terminal, most) for row in passage.predictions]
    return [Column(cells) for cells in zip(heads, *rows, strict=True)]


def _row_cells(
    row: LayerPredictions, passage: Passage, pieces: Pieces, terminal: Terminal, most: int | None
) -> list[list[Span]]:
    """One layer's predictions, nothing where there is none."""
    texts = iter(_texts([token for token in row.ids if token is not None], pieces, terminal, most))
    cells: list[list[Span]] = []
    for agrees, correct in zip(passage.agrees(row), passage.correct(row), strict=True):
        if agrees is None:
            cells.append([])
            continue
        cells.append([Span(next(texts), "plain" if agrees else "differs"), Span(CHOSEN if correct else "")])
    return cells


def _texts(ids: Sequence[int], pieces: Pieces, terminal: Terminal, most: int | None) -> list[str]:
    """Tokens as each looks by itself. One that begins a word keeps its space, so that word beginnings are indented."""
    texts = token_texts(ids, pieces, terminal)
    return texts if most is None else [shorten(text, most, terminal.glyphs.dots) for text in texts]


def _passage_notes(measures: TextMeasures) -> list[list[Span]]:
    """How to read the passage."""
    last = measures.layer_count
    notes = [
        [Span("Under each token of the text stands what each layer, having read the text before it, predicted.")],
        [Span("Tokens marked "), Span("so", "differs"), Span(f" differ from layer {last}'s prediction;")],
    ]
    notes[-1].append(Span(f" {CHOSEN} marks those that are the text's own."))
    if None in measures.passage.final.ids:
        notes.append([Span("The first token of a window is read but not predicted.")])
    return notes


# ---------------------------------------------------------------- the means
def _heading(measures: TextMeasures) -> str:
    """What the means are over."""
    windows = -(-measures.token_count // measures.window)
    how = "read in one window" if windows == 1 else f"read in {windows:,} windows of {measures.window:,}"
    return f"Means over {measures.scored_count:,} predicted tokens of {measures.token_count:,}, {how}:"


def _number_columns(summaries: Sequence[LayerSummary]) -> list[Column]:
    """A column a number, flush right under its name."""
    texts = {
        "agrees": [f"{summary.agreeing_share:.1%}" for summary in summaries],
        "correct": [f"{summary.correct_share:.1%}" for summary in summaries],
        "entropy": [f"{summary.mean_entropy_bits:.2f}" for summary in summaries],
        "KL": [f"{summary.mean_kl_to_final_bits:.2f}" for summary in summaries],
        "perplexity": [in_short(summary.perplexity) for summary in summaries],
    }
    return [
        Column(
            [[Span(flush_right(name, max(map(width, numbers))), "heading")], *([Span(number)] for number in numbers)],
            right=True,
        )
        for name, numbers in texts.items()
    ]


def _number_notes(last: int) -> list[str]:
    """What the columns mean."""
    return [
        f"agrees: the likeliest token is layer {last}'s; correct: it is the text's own.",
        f"entropy of the prediction and KL from layer {last}'s to it are in bits.",
        "perplexity: exp of the mean of - log p(the text's own token).",
    ]


# ---------------------------------------------------------------- labels
def _labels(texts: Sequence[str]) -> Column:
    """What stands before the rows."""
    cells = max(map(width, texts))
    return Column([[Span(pad(text, cells), "heading")] for text in texts], gap=0)


def _room(labels: Column, terminal: Terminal) -> int | None:
    """The cells beside the labels."""
    return None if terminal.width is None else terminal.width - labels.width
