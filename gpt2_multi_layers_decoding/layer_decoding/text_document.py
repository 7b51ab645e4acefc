"""A text read by every layer as a JSON document, schema layer-decoding/text/1, and as a table of numbers."""

import csv
import io
import math
from typing import Any

from layer_decoding.documents import document_head
from layer_decoding.loading import LoadedModel
from layer_decoding.pieces import Pieces
from layer_decoding.text_results import LayerPredictions, LayerSummary, Passage, TextMeasures


def text_document(measures: TextMeasures, source: str, loaded: LoadedModel, pieces: Pieces) -> dict[str, Any]:
    """The text script's document; `source` is the file's name, or - for stdin."""
    return {
        **document_head("text", loaded, measures.layer_count),
        "text": {
            "source": source,
            "token_count": measures.token_count,
            "scored_count": measures.scored_count,
            "window": measures.window,
        },
        "layers": [_numbers(summary) for summary in measures.layers],
        "passage": _passage(measures.passage, pieces),
    }


def text_table(measures: TextMeasures) -> str:
    """The numbers of each layer as CSV, a line a layer after a line of names; empty where a number is infinite."""
    rows = [_numbers(summary) for summary in measures.layers]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(rows[0])
    writer.writerows([number if math.isfinite(number) else None for number in row.values()] for row in rows)
    return text.getvalue()


def _numbers(summary: LayerSummary) -> dict[str, Any]:
    return {**vars(summary), "perplexity": summary.perplexity}


def _passage(passage: Passage, pieces: Pieces) -> dict[str, Any]:
    return {
        "first": passage.first,
        "ids": passage.ids,
        "tokens": pieces.of(passage.ids),
        "rows": [_row(row, passage, pieces) for row in passage.predictions],
    }


def _row(row: LayerPredictions, passage: Passage, pieces: Pieces) -> dict[str, Any]:
    """A layer's predictions, null where a window begins. Each is a token on its own: they are no running text."""
    return {
        "layer": row.layer,
        "ids": row.ids,
        "tokens": [None if token is None else pieces.of([token])[0] for token in row.ids],
        "agrees": passage.agrees(row),
        "correct": passage.correct(row),
    }
