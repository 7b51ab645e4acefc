"""The text itself, each token shaded by a number of a layer: as a rule, how surprised the layer was at it."""

from collections.abc import Sequence

from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import BY_OPTION, Measure
from layer_decoding.terminal.columns import labelled, prompt_lines, prose
from layer_decoding.terminal.hidden import whole_emoji
from layer_decoding.terminal.pieces import Pieces, shown, visible
from layer_decoding.terminal.shades import CHANCE_ROLES, bar
from layer_decoding.terminal.spans import Span, pad
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.rows import half_step_notes, label_cells, whose_text
from layer_decoding.views.table import level_by, shade_notes


def render_shaded(
    decoding: LayerDecoding,
    prompt: str,
    pieces: Pieces,
    terminal: Terminal,
    layers: Sequence[Layer] | None = None,
    measure: Measure | None = None,
) -> list[str]:
    """The prompt, the text once for each of the layers (None: all), what the shades mean; a string a line.

    `measure` shades by that number and puts it after its token. `decoding` must have been measured.
    Raises UsageError in own context, where each row is a text of its own.
    """
    if decoding.context == "own":
        raise UsageError("In own context each layer has a text of its own, there is no one text to shade.")
    rows = [row for row in decoding.rows if layers is None or row.layer in layers]
    shaded = measure or BY_OPTION["surprise"]
    lines = [*prompt_lines(prompt, terminal), ""]
    for row in rows:
        spans = _text_spans(row, rows, decoding, pieces, terminal, shaded, numbered=measure is not None)
        lines += labelled(pad(f"Layer {row.layer}:", label_cells(decoding)), spans, terminal)
    lines.append("")
    last = decoding.layer_count
    said = f"Each row is {whose_text(decoding)}"
    number = f", after each token {shaded.cell}." if measure else ", shaded by what its layer made of each token."
    for note in [[Span(said + number)], *shade_notes(shaded, rows, last, terminal), *half_step_notes(decoding)]:
        lines += [line.rstrip(" ") for line in prose(note, terminal)]
    return lines


def _text_spans(
    row: LayerRow,
    rows: Sequence[LayerRow],
    decoding: LayerDecoding,
    pieces: Pieces,
    terminal: Terminal,
    measure: Measure,
    *,
    numbered: bool,
) -> list[Span]:
    """The text in one layer's shades; spaces before words in none. A character has the darkest of its tokens'."""
    level_of = level_by(measure, rows)
    texts = pieces.of(decoding.text_ids)
    spans, level, numbers = [], 0, []
    for text, whole, value in zip(texts, whole_emoji(texts), measure.values(row), strict=True):
        level = max(level, level_of(value))
        numbers.append(measure.short(value))
        if not whole:
            continue
        written = visible(text, terminal) if text == whole else shown(whole, terminal)
        word = written.lstrip(" ")
        mark = terminal.theme.stand_in(bar(level, terminal)).strip(" ")
        spans += [Span(written.removesuffix(word)), Span(mark + word, CHANCE_ROLES[level])]
        if numbered:
            spans.append(Span(f"({', '.join(numbers)})", "note", glued=True))
        level, numbers = 0, []
    return spans
