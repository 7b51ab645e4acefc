"""What each lens says of one text, as the page shows it: cells, legend, rows, and what the page's script is given.

A page has one reading, or several of the same text, between which it switches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from layer_decoding.files.page.shading import ShadedTable, shaded_tables
from layer_decoding.files.page.text import Word, word_data
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import long_percent
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import Span, merge
from layer_decoding.terminal.theme import Glyphs, Terminal
from layer_decoding.views.rows import compare, lens_notes, notes, row_spans, settling_notes

Names = Mapping[int, str]  # how each token on the page is written, by its id
_PLAIN = "Read through the plain lens: the model's own norm and head."


@dataclass(frozen=True)
class Cell:
    """What one layer says at one step: its token, the space before it apart, and a measure's number."""

    space: str
    word: str
    number: str
    differs: bool
    classes: str


@dataclass(frozen=True)
class Reading:
    """A text read through one lens."""

    lens: str
    notes: list[list[Span]]
    rows: list[list[Span]]  # each as a text
    measures: dict[str, ShadedTable]
    cells: list[list[Cell]]  # [R][T], shaded by the first measure if there is one
    data: dict[str, Any]  # for the script: tokens by their place in the list of names, numbers as they are written


def reading(
    decoding: LayerDecoding,
    together: Sequence[LayerDecoding],
    words: Sequence[Word],
    names: Names,
    pieces: Pieces,
    screen: Terminal,
) -> Reading:
    """One of the decodings that are on a page together: a number has the same shade in each of them."""
    measures = shaded_tables(decoding, [row for each in together for row in each.rows])
    differs = [[not same for same in compare(row, decoding)[0]] for row in decoding.rows]
    said = notes(decoding, screen.glyphs)
    if len(together) > 1 and decoding.lens == PLAIN_LENS:  # which needs no saying where there is no other
        said.insert(0, [Span(_PLAIN)])
    return Reading(
        decoding.lens,
        [merge(note) for note in said],
        # The table above them tells their tokens apart.
        [merge(replace(span, piece=False) for span in row_spans(r, decoding, pieces, screen)) for r in decoding.rows],
        measures,
        _cells(decoding, names, next(iter(measures.values()), None), differs),
        {**_data(decoding, names, measures, differs), "text": word_data(decoding, together, words)},
    )


def token_ids(decodings: Sequence[LayerDecoding]) -> set[int]:
    """Every token over a column, in a cell or among its candidates."""
    rows = [row for decoding in decodings for row in decoding.rows]
    steps = chain.from_iterable(row.candidates or () for row in rows)
    candidates = (candidate.id for candidate in chain.from_iterable(steps))
    return {*decodings[0].text_ids, *chain.from_iterable(row.ids for row in rows), *candidates}


@dataclass(frozen=True)
class Parting:
    """Where the tokens of several readings differ."""

    notes: list[list[Span]]
    meaning: str  # beside the cells that are marked
    cells: list[str]  # a string a row: 1 where they differ, else 0


def parting(decodings: Sequence[LayerDecoding], glyphs: Glyphs) -> Parting:
    """The third state of the switch: the cells of the first lens, with the others' tokens where they differ."""
    table = [
        [len(set(tokens)) > 1 for tokens in zip(*(row.ids for row in rows), strict=True)]
        for rows in zip(*(decoding.rows for decoding in decodings), strict=True)
    ]
    count, cells = sum(map(sum, table)), sum(map(len, table))
    first, *others = decodings
    claims = [lens_notes(each.lens, each.layer_count) or [[Span(_PLAIN)]] for each in decodings]
    rest = notes(first, glyphs)[len(lens_notes(first.lens, first.layer_count)) :]
    unsettled = rest[: len(rest) - len(settling_notes(first, glyphs))]
    return Parting(
        [merge(note) for note in [*chain.from_iterable(claims), *unsettled]],
        f"marked where the lenses' tokens differ, {count:,} of {cells:,} cells: first {first.lens}'s, below it"
        f" {' and '.join(each.lens for each in others)}'s",
        ["".join(map(str, map(int, row))) for row in table],
    )


def _cells(
    decoding: LayerDecoding, names: Names, measure: ShadedTable | None, differs: Sequence[Sequence[bool]]
) -> list[list[Cell]]:
    table = []
    for number, row in enumerate(decoding.rows):
        cells = []
        for step, token in enumerate(row.ids):
            word = names[token].lstrip(" ")
            space = names[token].removesuffix(word)
            shade, text = (f"s{measure.levels[number][step]}", measure.texts[number][step]) if measure else ("", "")
            settles = decoding.settles_at is not None and _settling_row(decoding, step) is row
            classes = [shade] * bool(shade) + ["settles"] * settles
            cells.append(Cell(space, word, text, differs[number][step], " ".join(classes)))
        table.append(cells)
    return table


def _settling_row(decoding: LayerDecoding, step: int) -> LayerRow:
    """The first row shown from which on the token no longer changes."""
    assert decoding.settles_at is not None
    return next(row for row in decoding.rows if row.layer >= decoding.settles_at[step])


def _data(
    decoding: LayerDecoding, names: Names, measures: Mapping[str, ShadedTable], differs: Sequence[Sequence[bool]]
) -> dict[str, Any]:
    place = {token: index for index, token in enumerate(names)}
    steps = range(len(decoding.settles_at or ()))
    return {
        "lens": decoding.lens,
        "tokens": [[place[token] for token in row.ids] for row in decoding.rows],
        "differs": ["".join(map(str, map(int, row))) for row in differs],
        "settles": list(map(str, decoding.settles_at or ())),
        "settlesIn": [decoding.rows.index(_settling_row(decoding, step)) for step in steps],
        "measures": {
            key: {**vars(measure), "levels": ["".join(map(str, row)) for row in measure.levels]}
            for key, measure in measures.items()
        },
        "candidates": [
            [[[place[c.id], long_percent(c.probability)] for c in step] for step in row.candidates or ()]
            for row in decoding.rows
        ],
    }
