"""A decoding as one long table in CSV: a line a layer and step, for spreadsheets and data frames.

Comma-separated as in RFC 4180, UTF-8, numbers unrounded; empty where a measure is not known.
"""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from layer_decoding.files.documents import summary_numbers
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import MEASURES
from layer_decoding.results.text import TextMeasures
from layer_decoding.terminal.hidden import escape
from layer_decoding.terminal.pieces import Pieces


def text_table(*compared: TextMeasures) -> str:
    """The numbers of each layer as CSV, a line a layer after a line of names; empty where a number is infinite.

    A last column names the lens, unless all was read with the plain one.
    """
    named = any(measures.lens != PLAIN_LENS for measures in compared)
    rows = [
        {**summary_numbers(summary), **({"lens": measures.lens} if named else {})}
        for measures in compared
        for summary in measures.layers
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0])
    writer.writerows([_finite(value) for value in row.values()] for row in rows)
    return text.getvalue()


COLUMNS = ("layer", "step", "id", "token", "agrees", *(measure.field for measure in MEASURES))
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # a spreadsheet may run what begins so


def to_csv(decoding: LayerDecoding, pieces: Pieces) -> str:
    """The table with its heading, lines ended by CR LF; a last column names the lens, unless it is the plain one."""
    lens = [] if decoding.lens == PLAIN_LENS else [decoding.lens]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, *(["lens"] if lens else [])])
    for layer, step, token, piece, agrees, *numbers in table_rows(decoding, pieces):
        writer.writerow([layer, step, token, safe_for_spreadsheet(piece), str(agrees).lower(), *numbers, *lens])
    return text.getvalue()


def safe_for_spreadsheet(text: str) -> str:
    r"""A token as a spreadsheet may be given it: controls spelt out, an apostrophe before what would be a formula.

    Not to be read backwards: which token it is, its id says.

    >>> safe_for_spreadsheet("=1+1"), safe_for_spreadsheet(" =1"), safe_for_spreadsheet("\n")
    ("'=1+1", ' =1', '\\n')
    """
    shown = escape(text)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def table_rows(decoding: LayerDecoding, pieces: Pieces) -> Iterator[list[Any]]:
    """A row a layer and step, in the order of COLUMNS."""
    for row in decoding.rows:
        agrees = decoding.agrees(row)
        measures = [getattr(row, measure.field) or [None] * len(row.ids) for measure in MEASURES]
        for step, (token, text) in enumerate(zip(row.ids, pieces.of(row.ids), strict=True)):
            yield [row.layer, step + 1, token, text, agrees[step], *(_finite(column[step]) for column in measures)]


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
