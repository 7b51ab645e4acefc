"""Stored results, and what they look like: `goldens/NAME.json` rendered as `goldens/NAME.VIEW.txt`.

A result is stored with the text of its tokens, so that a golden holds on any processor and with any model.
`tools/make_goldens.py` makes them again.
"""

import json
from pathlib import Path

from layer_decoding.results.greedy import Candidate, LayerDecoding, LayerRow
from layer_decoding.results.measures import BY_OPTION, averaged
from layer_decoding.results.text import LayerSummary, Passage, TextMeasures
from layer_decoding.terminal.theme import ASCII, COLOUR, Terminal
from layer_decoding.terminal.utf8 import join_bytes
from layer_decoding.views.rows import render_decoding
from layer_decoding.views.steps import render_steps
from layer_decoding.views.table import render_table
from layer_decoding.views.text import render_passage, render_summaries
from layer_decoding.views.track import render_track, tracked_at

GOLDENS = Path(__file__).parent.parent / "goldens"
RESULTS = ("shared", "own", "awkward")
MEASURED = ("measured", "wide")  # stored with their measures, for the views that look closer
TRACKED_STEP = 4
AVERAGED = [measure.field for measure in averaged()]
VIEWS = {
    "unwrapped": Terminal(),
    "plain80": Terminal(width=80),
    "colour80": Terminal(COLOUR, width=80),
    "ascii40": Terminal(glyphs=ASCII, width=40),
}


class StoredPieces:
    """The pieces of ids whose bytes are given: stands where a tokenizer's would, without a tokenizer."""

    def __init__(self, token_bytes):
        self.token_bytes = token_bytes

    def of(self, ids):
        """One piece a token, as `Pieces.of`."""
        return join_bytes([self.token_bytes[token] for token in ids])

    def inside(self, token):
        """A token by itself, as `Pieces.inside`."""
        return self.of([token])[0]


def stored(name):
    """A stored result as (decoding, prompt, pieces). Bytes that are no text are lone surrogates in the file."""
    document = json.loads((GOLDENS / f"{name}.json").read_text(encoding="utf-8"))
    rows = tuple(_row(row) for row in document["rows"])
    settles = document["settles_at"]
    decoding = LayerDecoding(
        document["context"],
        document["layer_count"],
        tuple(document["prompt_ids"]),
        document["max_new_tokens"],
        rows,
        settles if settles is None else tuple(settles),
        tuple(document.get("tracked_ids", ())),
    )
    tokens = {int(token): text.encode("utf-8", "surrogateescape") for token, text in document["tokens"].items()}
    return decoding, document["prompt"], StoredPieces(tokens)


def _row(stored_row):
    """A row, with whatever measures are stored of it."""
    candidates = stored_row.pop("candidates", None)
    if candidates is not None:
        candidates = tuple(tuple(Candidate(*candidate) for candidate in step) for step in candidates)
    columns = {name: _tuples(value) for name, value in stored_row.items()}
    return LayerRow(**columns, candidates=candidates)


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def rendered(name, view):
    """A stored result as text, in one of the VIEWS."""
    return "\n".join(render_decoding(*stored(name), VIEWS[view])) + "\n"


def looked_at_closely(name, view):
    """A stored result as text, in one of the VIEWS: the table with tokens and with ranks, the steps, the track."""
    decoding, prompt, pieces = stored(name)
    terminal = VIEWS[view]
    look = tracked_at(decoding, TRACKED_STEP, decoding.final_row.ids[: TRACKED_STEP - 1])
    parts = [
        render_table(decoding, prompt, pieces, terminal),
        render_table(decoding, prompt, pieces, terminal, BY_OPTION["rank"]),
        render_steps(decoding, prompt, pieces, terminal),
        render_track(look, prompt, pieces, terminal),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def stored_text():
    """The stored measures of a text as (measures, passage, pieces)."""
    document = json.loads((GOLDENS / "text.json").read_text(encoding="utf-8"))
    token_bytes = [text.encode("utf-8", "surrogateescape") for text in document.pop("tokens")]
    layers = tuple(
        LayerSummary(layer, agrees, correct, dict(zip(AVERAGED, means, strict=True)))
        for layer, agrees, correct, *means in document.pop("layers")
    )
    passage = Passage(document.pop("first"), tuple(document.pop("ids")), _stretches(document.pop("stretches")))
    return TextMeasures(**document, layers=layers), passage, StoredPieces(token_bytes)


def _stretches(stored):
    """What is stored of a passage: [where a part begins, its text, {layer: tokens}]."""
    return tuple(
        (start, LayerDecoding("shared", 12, (0,), len(text), _rows(rows), None, text_ids=tuple(text)))
        for start, text, rows in stored
    )


def _rows(rows):
    return tuple(LayerRow(int(layer), tuple(ids), finished=False) for layer, ids in rows.items())


def text_rendered(view):
    """The stored measures of a text as text, in one of the VIEWS."""
    measures, passage, pieces = stored_text()
    terminal, layers = VIEWS[view], [summary.layer for summary in measures.layers]
    lines = render_passage(passage, layers, measures.token_count, pieces, terminal)
    return "\n".join([*lines, *render_summaries(measures, terminal)]) + "\n"


def golden(name, view):
    """The file that holds what `rendered`, of the MEASURED `looked_at_closely`, or of a text `text_rendered` gives."""
    return GOLDENS / f"{name}.{view}.txt"
