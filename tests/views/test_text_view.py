"""What was measured on a text, written down: its lines, its document, its table of numbers."""

import csv
import io
import json
import math
import re
from dataclasses import replace

import pytest
from wcwidth import width

import goldens
from layer_decoding.decoding.text.along import read_passage
from layer_decoding.decoding.text.means import measure_text
from layer_decoding.files.documents import text_document, to_json
from layer_decoding.files.tables import text_table
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.text import LayerSummary, Passage
from layer_decoding.terminal.theme import ASCII, COLOUR, Terminal
from layer_decoding.views.text import in_short, render_passage, render_summaries
from row_texts import BRACKETED, UNMARKED

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def stored(**changed):
    """The stored measures of a text, with other means in its first layer, and its passage."""
    measures, passage, pieces = goldens.stored_text()
    first, *others = measures.layers
    changed = replace(first, means={**first.means, **changed})
    return replace(measures, layers=(changed, *others)), passage, pieces


def render_text(measures, passage, pieces, terminal):
    """Passage and means, as the script prints them."""
    layers = [summary.layer for summary in measures.layers]
    lines = render_passage(passage, layers, measures.token_count, pieces, terminal)
    return [*lines, *render_summaries(measures, terminal)]


# ---------------------------------------------------------------- lines


@pytest.mark.parametrize("view", goldens.VIEWS)
def test_golden(view):
    """A deliberate change: python tests/tools/make_goldens.py, then read the difference."""
    assert goldens.text_rendered(view) == goldens.golden("text", view).read_bytes().decode()


@pytest.mark.parametrize("glyphs", [Terminal().glyphs, ASCII])
@pytest.mark.parametrize("cells", [*range(21, 64), 100, None])
def test_colour_and_marks_say_the_same(cells, glyphs):
    """Each theme fills its own panels; what is said of every token, and how to read it, is the same."""
    coloured, unmarked, marked = (
        render_text(*stored(), Terminal(theme, glyphs, cells)) for theme in (COLOUR, UNMARKED, BRACKETED)
    )
    bare = [ESCAPES.sub("", line) for line in coloured]
    assert [line.rstrip(" ") for line in bare] == [line.rstrip(" ") for line in unmarked]
    assert said(bare) == said([line.translate({ord(mark): "" for mark in "⟦⟧"}) for line in marked])
    assert len(coloured) <= len(marked)
    for line in [*bare, *marked]:
        assert cells is None or width(line) <= cells, line
        assert not re.search(r"[\x00-\x1f\u202e]", line)
    for line in coloured:
        assert (ESCAPES.findall(line) or [COLOUR.reset])[-1] == COLOUR.reset
    words = " ".join(" ".join(bare).split())
    assert words.count("Layer 12:") >= 2


def said(lines):
    """The words of each row of the passage without the names of its panels, then those under it."""
    rows, others = {}, []
    for line in lines:
        label = re.match(r"(Text|Layer \d+):( |$)", line)
        if label:
            rows.setdefault(label[1], []).extend(line[label.end() :].split())
        elif not re.match(r"Tokens? [\d,]+", line):
            others += line.split()
    return rows, "".join(others)


def test_columns_stand_under_each_other():
    """Every cell of a panel begins where its column does, whatever is painted before it."""
    text = stored()
    for theme in (Terminal().theme, COLOUR):
        lines = [ESCAPES.sub("", line) for line in render_text(*text, Terminal(theme, width=60))]
        heads = [line.index("upon") for line in lines[1:5] if "upon" in line]
        assert len(set(heads)) == 1


def test_unwrapped_is_one_line_a_row():
    lines = render_text(*stored(), Terminal())
    assert sum(line.startswith("Text:") for line in lines) == 1
    assert "=" * 40 in lines[1]  # nothing is shortened where there is no screen


def test_numbers_of_any_size():
    assert [in_short(x) for x in (1.0, 999.94, 999.96, 1e7, math.inf)] == ["1.0", "999.9", "1,000", "1.0e+07", "inf"]
    assert LayerSummary(1, 0, 0, {"surprise_bits": 1200.0}).perplexity == math.inf
    assert any(" inf" in line for line in render_text(*stored(surprise_bits=math.inf), Terminal(width=60)))


# ---------------------------------------------------------------- document and table


def test_document(tiny, mini):
    ids = list(range(70))
    measures, passage = measure_text(tiny, ids, layers=[1]), read_passage(tiny, ids, range(60, 70), layers=[1])
    pieces = goldens.StoredPieces([b"x"] * 97)
    document = json.loads(to_json(text_document(measures, passage, "tale.txt", mini, pieces)))
    assert document["schema"] == "layer-decoding/text/1"
    assert document["prompt"] is document["max_new_tokens"] is None
    assert document["text"] == {"source": "tale.txt", "token_count": 70, "scored_count": 68, "window": 64}
    assert [layer["layer"] for layer in document["layers"]] == [1, 4]
    assert document["layers"][-1]["agreeing_share"] == 1
    assert document["passage"]["first"] == 61
    assert document["passage"]["ids"] == ids[60:]
    for row in document["passage"]["rows"]:
        assert row["ids"][4] is row["tokens"][4] is row["agrees"][4] is row["correct"][4] is None
        assert {len(row[key]) for key in ("ids", "tokens", "agrees", "correct")} == {10}


def test_table_of_numbers():
    measures, _, _ = stored(surprise_bits=math.inf)
    first, *rows = csv.reader(io.StringIO(text_table(measures)))
    assert first[0], first[-1] == ("layer", "perplexity")
    assert [row[0] for row in rows] == ["1", "6", "12"]
    assert rows[0][-1] == ""  # infinite
    assert float(rows[1][-1]) == pytest.approx(math.exp(2))


def test_a_prediction_that_is_right_does_not_look_wrong():
    row, last = LayerRow(1, (3, 4, 5), finished=False), LayerRow(2, (3, 5, 6), finished=False)
    part = LayerDecoding("shared", 2, (0,), 3, (row, last), None, text_ids=(3, 4, 6))
    pieces = goldens.StoredPieces([b"a", b"b", b"c", b"d", b"e", b"f", b"g"])
    passage = Passage(2, (3, 4, 6), ((0, part),))
    assert render_passage(passage, [1, 2], 4, pieces, Terminal())[2] == "Layer 1: d* e* [f]"
    (line,) = [text for text in render_passage(passage, [1, 2], 4, pieces, Terminal(COLOUR)) if "Layer 1:" in text]
    assert f"{COLOUR.chosen}e{COLOUR.reset}*" in line
