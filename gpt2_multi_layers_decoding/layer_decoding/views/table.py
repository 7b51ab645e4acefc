"""The layer table: layers down, steps across, a cell each; cut into panels at the terminal's width.

A cell is the layer's likeliest token, shaded by its probability, or one number of the layer, shaded by that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from wcwidth import width

from layer_decoding.errors import UsageError
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import BY_OPTION, Measure, shades_of
from layer_decoding.terminal.columns import Column, even_panels, prompt_lines, prose, table
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.shades import CHANCE_ROLES, bar, chance_legend, chance_level, legend
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten
from layer_decoding.terminal.theme import CHOSEN, Terminal
from layer_decoding.views.rows import compare, half_step_notes, settling_notes, whose_text

Place = Callable[[str, int], str]  # a text in so many cells
_LABEL = "Layer"
_FRAME = 2  # cells beside a cell's text: the mark that stands in for its shade, and the star
_MOST_TOKEN = 16  # cells: a longer token is shortened
_LEAST_TOKEN = 4
_MOST_HEAD = 8  # cells: a token over a column of numbers


@dataclass(frozen=True)
class _Cell:
    """A text, the level that shades it, and whether the token is the last layer's too."""

    text: str
    level: int
    agrees: bool


def render_table(
    decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, measure: Measure | None = None
) -> list[str]:
    """The prompt, the table and its legend, a string a line. `decoding` must have been measured.

    `measure` puts a number in the place of the token. Raises UsageError where the terminal is too narrow for one
    column, and where own context has no such measure.
    """
    if measure is not None and not measure.is_in(decoding):
        raise UsageError(f"Own context has no {measure.option}: the last layer does not read the other layers' texts.")
    over = decoding.text_ids if _has_text_above(decoding, measure) else ()
    columns = step_columns(decoding, over, pieces, terminal, measure)
    heads = 2 if over else 1
    labels = [[Span(text)] for text in [_LABEL, ""][:heads]]
    labels += [[Span(f"{row.layer!s:>{len(_LABEL)}}", "heading")] for row in decoding.rows]
    lines = prompt_lines(prompt, terminal)
    for panel in even_panels(columns, None if terminal.width is None else terminal.width - len(_LABEL)):
        lines += ["", *table([Column(labels, gap=0), *panel], terminal, heads)]
    lines.append("")
    for note in _notes(decoding, terminal, measure):
        lines += [line.rstrip(" ") for line in prose(note, terminal)]
    return lines


def step_columns(
    decoding: LayerDecoding,
    over: Sequence[int],
    pieces: Pieces,
    terminal: Terminal,
    measure: Measure | None = None,
    first: int = 1,
    level_of: Callable[[float], int] | None = None,
) -> list[Column]:
    """A column a step, numbered from `first`: its number, the token `over` it if there are any, and a cell a row.

    `level_of` shades the cells; if it is not given, their numbers are compared with each other.
    """
    most = _most_token(terminal)

    def tokens(ids: Sequence[int], cells: int) -> list[str]:
        return [shorten(text, cells, terminal.glyphs.dots) for text in token_texts(ids, pieces, terminal)]

    heads = tokens(over, most if measure is None else min(most, _MOST_HEAD))
    shaded = measure or BY_OPTION["probability"]
    level_of = level_of or level_by(shaded, decoding.rows)
    rows = []
    for row in decoding.rows:
        texts = tokens(row.ids, most) if measure is None else list(map(measure.short, measure.values(row)))
        levels = map(level_of, shaded.values(row))
        rows.append([_Cell(*cell) for cell in zip(texts, levels, compare(row, decoding)[0], strict=True)])
    place = pad if measure is None else flush_right
    return [
        _column((str(first + step), *heads[step : step + 1]), cells, place, terminal)
        for step, cells in enumerate(zip_longest(*rows))
    ]


def _has_text_above(decoding: LayerDecoding, measure: Measure | None) -> bool:
    """Whether the text stands over the columns: where cells are numbers, or the last row is another text.

    In own context positions do not correspond.
    """
    return decoding.context == "shared" and (measure is not None or not decoding.is_greedy)


def _column(heads: Sequence[str], cells: Sequence[_Cell | None], place: Place, terminal: Terminal) -> Column:
    """Texts in frames of one width: blank around a head, a mark for the shade and a star around a cell."""
    inner = max(map(width, [*heads, *(cell.text for cell in cells if cell is not None)]))
    framed = [[Span(f" {place(head, inner)} ")] for head in heads]
    return Column([*framed, *(_shaded(cell, inner, place, terminal) for cell in cells)])


def _shaded(cell: _Cell | None, inner: int, place: Place, terminal: Terminal) -> list[Span]:
    """A cell in its shade, all of its column's width; nothing where that row's text has ended."""
    if cell is None:
        return []
    text = cell.text if place is pad else place(cell.text, inner)  # the star follows the text at once
    framed = bar(cell.level, terminal) + text + (CHOSEN if cell.agrees else "")
    return [Span(pad(framed, inner + _FRAME), CHANCE_ROLES[cell.level])]


def level_by(measure: Measure, rows: Sequence[LayerRow]) -> Callable[[float], int]:
    """Which of the CHANCE_ROLES a number of a measure has, among those of some rows."""
    return chance_level if measure.high == 1 else shades_of(measure, rows, len(CHANCE_ROLES)).level


def shade_notes(measure: Measure, rows: Sequence[LayerRow], last: int, terminal: Terminal) -> list[list[Span]]:
    """What the shades mean: one list of spans a line, none where all numbers are alike."""
    if measure.high == 1:
        return [chance_legend(terminal)]
    shades = shades_of(measure, rows, len(CHANCE_ROLES))
    if shades.high <= shades.low:
        return []
    bounds = list(map(measure.short, shades.bounds()[1:]))
    ranges = [f"{low}-{high}" for low, high in pairwise(bounds)]
    said = measure.meaning.format(last=f"layer {last}")
    return [legend(f"Shaded from {bounds[0]} on by {said}:", ranges, terminal)]


def _most_token(terminal: Terminal) -> int:
    """How many cells a token may take."""
    if terminal.width is None:
        return _MOST_TOKEN
    frame = len(_LABEL) + 1 + _FRAME
    if terminal.width < frame + _LEAST_TOKEN:
        raise UsageError(
            f"The table needs {frame + _LEAST_TOKEN} cells for one column, the width is {terminal.width};"
            " make it wider."
        )
    return min(_MOST_TOKEN, terminal.width - frame)


def _notes(decoding: LayerDecoding, terminal: Terminal, measure: Measure | None) -> list[list[Span]]:
    """The legend, and where the text settles: one list of spans a line."""
    last = decoding.layer_count
    cell, it = "its layer's likeliest token", "it is"
    if measure is not None:
        cell, it = measure.cell, "its likeliest token is"
    if decoding.context == "own":
        lines = [
            [Span("Each row is a text of its layer's own: what the model cut off after that block writes.")],
            [Span(f"A cell is {cell}; {CHOSEN} where layer {last}'s text has the likeliest token too, in this order.")],
        ]
    else:
        where = f"at that step of {whose_text(decoding)}"
        lines = [[Span(f"A cell is {cell} {where}; {CHOSEN} where {it} layer {last}'s.")]]
    lines += shade_notes(measure or BY_OPTION["probability"], decoding.rows, last, terminal)
    return lines + half_step_notes(decoding) + settling_notes(decoding, terminal.glyphs)
