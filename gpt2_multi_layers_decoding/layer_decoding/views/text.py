"""What every layer predicted for a text, as lines: a passage with the predictions under its tokens, then the means.

Both are tables of columns, cut into panels at the terminal's width. A prediction that is neither the
last layer's nor the text's own token is painted as such; the text's own has a star.
"""

from collections.abc import Callable, Sequence

from wcwidth import width

from layer_decoding.layers import PLAIN_LENS, Layer
from layer_decoding.results.measures import averaged
from layer_decoding.results.text import LayerSummary, Passage, TextMeasures
from layer_decoding.terminal.columns import Column, panels, prose, table
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten
from layer_decoding.terminal.theme import CHOSEN, PLAIN, Terminal
from layer_decoding.views.rows import lens_notes

_MOST_TOKEN = 16  # cells: a longer token is shortened where there is a width to keep


def render_passage(
    passage: Passage, layers: Sequence[Layer], token_count: int, pieces: Pieces, terminal: Terminal
) -> list[str]:
    """A passage of a text of so many tokens, what the layers say in it, and how to read it; a string a line."""
    labels = _labels(["Text:", *(f"Layer {layer}:" for layer in layers)])
    room = None if terminal.width is None else terminal.width - labels.width
    first, lines = passage.first, []
    for panel in panels(_token_columns(passage, layers, pieces, terminal, room), room):
        span = f"Token {first:,}" if len(panel) == 1 else f"Tokens {first:,} to {first + len(panel) - 1:,}"
        lines += prose([Span(f"{span} of {token_count:,}", "note")], terminal)
        lines += [*table([labels, *panel], terminal), ""]
        first += len(panel)
    lens = passage.stretches[0][1].lens if passage.stretches else PLAIN_LENS
    for spans in [*lens_notes(lens, layers[-1]), *_passage_notes(passage, layers[-1])]:
        lines += prose(spans, terminal)
    return [*lines, ""]


def render_summaries(measures: TextMeasures, terminal: Terminal) -> list[str]:
    """How every layer did on average, and what the columns mean; a string a line."""
    lines = prose([Span(_heading(measures), "heading")], terminal)
    labels = _labels(["", *(f"Layer {summary.layer}:" for summary in measures.layers)])
    room = None if terminal.width is None else terminal.width - labels.width
    for panel in panels(_number_columns(measures.layers), room):
        lines += table([labels, *panel], terminal)
    for note in _number_notes(measures.layer_count):
        lines += prose([Span(note)], terminal)
    for claim in lens_notes(measures.lens, measures.layer_count):
        lines += prose(claim, terminal)
    return lines


def render_comparison(
    compared: Sequence[TextMeasures],
    terminal: Terminal,
    quantities: Sequence[str] = ("KL", "agrees", "perplexity", "bias"),
) -> list[str]:
    """How every layer did on average through several lenses, side by side, and what the columns mean."""
    first = compared[0]
    lines = prose([Span(_heading(first), "heading")], terminal)
    labels = _labels(["", "", *(f"Layer {summary.layer}:" for summary in first.layers)])
    room = None if terminal.width is None else terminal.width - labels.width
    columns = [
        _compared_column(name, measures.lens, _COMPARED[name](measures.layers))
        for name in quantities
        for measures in compared
    ]
    for panel in panels(columns, room):
        lines += table([labels, *panel], terminal, heads=2)
    notes = [[Span(_COMPARED_NOTES[name].format(last=f"layer {first.layer_count}"))] for name in quantities]
    for note in [*notes, *(note for measures in compared for note in lens_notes(measures.lens, first.layer_count))]:
        lines += prose(note, terminal)
    return lines


_COMPARED: dict[str, Callable[[Sequence[LayerSummary]], list[str]]] = {
    "KL": lambda layers: [f"{summary.means['kl_to_final_bits']:.2f}" for summary in layers],
    "agrees": lambda layers: [f"{summary.agreeing_share:.1%}" for summary in layers],
    "perplexity": lambda layers: [in_short(summary.perplexity) for summary in layers],
    "bias": lambda layers: ["" if each.bias_bits is None else f"{each.bias_bits:.2f}" for each in layers],
}
_COMPARED_NOTES = {
    "KL": "KL: from {last}'s prediction to it, in bits.",
    "agrees": "agrees: the likeliest token is {last}'s.",
    "perplexity": "perplexity: exp of the mean of - log p(the text's own token).",
    "bias": "bias: KL from the mean of {last}'s predictions to the mean of its own, in bits: what is wrong on average.",
}


def _compared_column(name: str, lens: str, numbers: Sequence[str]) -> Column:
    """A quantity through one lens: both names over its numbers."""
    cells = max(map(width, [lens, *numbers]))
    heads = [[Span(flush_right(text, cells), "heading")] for text in (name, lens)]
    return Column([*heads, *([Span(number)] for number in numbers)], right=True)


# ---------------------------------------------------------------- the passage


def _token_columns(
    passage: Passage, layers: Sequence[Layer], pieces: Pieces, terminal: Terminal, room: int | None
) -> list[Column]:
    """A column a token: the text's own, and under it each layer's prediction."""
    most = None if room is None else max(1, min(_MOST_TOKEN, room - 1 - PLAIN.mark_cells - len(CHOSEN)))
    heads = [[Span(text, "heading")] for text in _texts(passage.ids, pieces, terminal, most)]
    rows = [_row_cells(layer, passage, pieces, terminal, most) for layer in layers]
    return [Column(cells, theme=terminal.theme) for cells in zip(heads, *rows, strict=True)]


def _row_cells(
    layer: Layer, passage: Passage, pieces: Pieces, terminal: Terminal, most: int | None
) -> list[list[Span]]:
    """One layer's predictions, nothing where there is none."""
    texts = iter(_texts([token for token in passage.predictions(layer) if token is not None], pieces, terminal, most))
    cells: list[list[Span]] = []
    for agrees, correct in zip(passage.agrees(layer), passage.correct(layer), strict=True):
        if agrees is None:
            cells.append([])
            continue
        cells.append(
            [
                Span(next(texts), "agrees" if agrees else "chosen" if correct else "differs"),
                Span(CHOSEN if correct else ""),
            ]
        )
    return cells


def _texts(ids: Sequence[int], pieces: Pieces, terminal: Terminal, most: int | None) -> list[str]:
    """Tokens as each looks by itself. One that begins a word keeps its space, so that word beginnings are indented."""
    texts = token_texts(ids, pieces, terminal)
    return texts if most is None else [shorten(text, most, terminal.glyphs.dots) for text in texts]


def _passage_notes(passage: Passage, last: Layer) -> list[list[Span]]:
    """How to read the passage."""
    notes = [
        [Span("Under each token of the text stands what each layer, having read the text before it, predicted.")],
        [
            Span("Tokens marked "),
            Span("so", "differs"),
            Span(f" are neither layer {last}'s prediction nor the text's own;"),
        ],
    ]
    notes[-1].append(Span(f" {CHOSEN} marks those that are the text's own."))
    if None in passage.predictions(last):
        notes.append([Span("The first token of a window is read but not predicted.")])
    return notes


# ---------------------------------------------------------------- the means
def _heading(measures: TextMeasures) -> str:
    """What the means are over."""
    windows = -(-measures.read_count // measures.window)
    how = "read in one window" if windows == 1 else f"read in {windows:,} windows of {measures.window:,}"
    return f"Means over {measures.scored_count:,} predicted tokens of {measures.token_count:,}, {how}:"


def _number_columns(summaries: Sequence[LayerSummary]) -> list[Column]:
    """A column a number, flush right under its name."""
    texts = {
        "agrees": [f"{summary.agreeing_share:.1%}" for summary in summaries],
        "correct": [f"{summary.correct_share:.1%}" for summary in summaries],
        **{m.name: [m.long(summary.means[m.field]) for summary in summaries] for m in averaged()},
        "perplexity": [in_short(summary.perplexity) for summary in summaries],
    }
    return [
        Column(
            [[Span(flush_right(name, max(map(width, numbers))), "heading")], *([Span(number)] for number in numbers)],
            right=True,
        )
        for name, numbers in texts.items()
    ]


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
        *(f"{m.mean_note.format(last=f'layer {last}')}." for m in averaged()),
        "perplexity: exp of the mean of - log p(the text's own token), or 2 to the power of the surprise.",
    ]


# ---------------------------------------------------------------- labels
def _labels(texts: Sequence[str]) -> Column:
    """What stands before the rows."""
    cells = max(map(width, texts))
    return Column([[Span(pad(text, cells), "heading")] for text in texts], gap=0)
