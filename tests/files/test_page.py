"""The page as a file: its numbers are the document's, its text is only text, and it needs nothing beside it."""

import base64
import hashlib
import math
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SOURCE
from layer_decoding.files.page.page import render_page
from layer_decoding.files.page.shading import SHADES, shaded_tables
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import MEASURES, long_percent
from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.spans import merge
from layer_decoding.terminal.theme import Glyphs, Terminal
from layer_decoding.views.rows import notes, row_spans
from pages import (
    HEAD,
    HOSTILE,
    agrees_with,
    by_id,
    cells_of,
    data_of,
    hostile_page,
    made_up,
    made_up_whys,
    parsed,
    pieces_of,
    reading_of,
    shown_alone,
    text_of,
    token_and_number,
    words_on,
)

FIELDS = {measure.option: measure.field for measure in MEASURES}


# ---------------------------------------------------------------- numbers


def test_the_numbers_are_the_documents(real_page):
    _, document, page = real_page
    root = parsed(page)
    data, reading, table = data_of(root), reading_of(root), cells_of(root)
    assert list(reading["measures"]) == list(FIELDS)
    assert data["layers"] == [row["layer"] for row in document["rows"]] == list(range(1, 13))
    for number, row in enumerate(document["rows"]):
        values = {**row, "logprob_nats": [math.exp(value) for value in row["logprob_nats"]]}
        for name, key in FIELDS.items():
            texts = reading["measures"][name]["texts"][number]
            assert len(texts) == len(row["ids"]) == 16
            assert all(map(agrees_with, texts, values[key])), (name, row["layer"])
        for step, cell in enumerate(table[number]):
            token, shown = token_and_number(cell)
            assert token == data["names"][reading["tokens"][number][step]] == shown_alone(row["tokens"][step])
            assert shown.text == reading["measures"]["probability"]["texts"][number][step]
            assert (cell.find("u") is None) == row["agrees"][step]
            candidates = [(data["names"][place], share) for place, share in reading["candidates"][number][step]]
            assert [name for name, _ in candidates] == [shown_alone(c["token"]) for c in row["candidates"][step]]
            assert all(
                agrees_with(share, c["probability"])
                for (_, share), c in zip(candidates, row["candidates"][step], strict=True)
            )


def test_where_a_token_settles_is_marked(real_page):
    _, document, page = real_page
    root = parsed(page)
    table = cells_of(root)
    footer = [int(cell.text) for cell in by_id(root, "layers").findall("tfoot/tr/td")]
    assert footer == document["settles_at"]
    for step, layer in enumerate(footer):
        marked = [row + 1 for row, cells in enumerate(table) if "settles" in cells[step].get("class").split()]
        assert marked == [layer]
        assert all(cells[step].find("u") is None for cells in table[layer - 1 :])


def test_settling_is_marked_in_the_first_row_shown_from_there_on():
    rows = tuple(LayerRow(layer, (0, 0), finished=False) for layer in (0, 3, 8, 12))
    page = render_page(LayerDecoding("shared", 12, (1,), 2, rows, (1, 9)), "p", HEAD, pieces_of(["a"]))
    marked = [["settles" in cell.get("class") for cell in cells] for cells in cells_of(parsed(page))]
    assert marked == [[False, False], [True, False], [False, False], [False, True]]


def test_shades_by_hand():
    nan, inf = math.nan, math.inf
    first = LayerRow(
        1,
        (0,) * 4,
        False,
        (0.0, math.log(0.5), math.log(0.05), -800.0),
        (0.0, 4.0, 8.0, nan),
        (0.0, 0.5, 1.0, inf),
        (1, 10, 100, 10000),
        (0.0, 1.0, 2.0, inf),
    )
    last = LayerRow(2, (0,) * 4, False, (0.0,) * 4, (0.0,) * 4, (0.0,) * 4, (1,) * 4, (0.0,) * 4)
    measures = shaded_tables(LayerDecoding("shared", 2, (1,), 4, (first, last), (1,) * 4))
    shown = {
        name: (measure.texts[0], measure.levels[0], measure.low, measure.high) for name, measure in measures.items()
    }
    assert SHADES == 9
    assert shown == {
        "probability": (["100%", "50.0%", "5.00%", "0%"], [8, 4, 0, 0], "0%", "100%"),
        "entropy": (["0.00", "4.00", "8.00", "–"], [0, 4, 8, 0], "0.00", "8.00"),
        "kl": (["0.00", "0.50", "1.00", "–"], [0, 4, 8, 0], "0.00", "1.00"),
        "rank": (["1", "10", "100", "10,000"], [0, 2, 4, 8], "1", "10,000"),
        "surprise": (["0.00", "1.00", "2.00", "–"], [0, 4, 8, 0], "0.00", "2.00"),
    }
    assert measures["kl"].levels[1] == [0] * 4


@given(st.floats(0, 1))
def test_a_percentage_is_the_probability(probability):
    assert agrees_with(long_percent(probability), probability)


def test_what_own_context_cannot_know_is_absent():
    decoding, page = hostile_page("own")
    root = parsed(page)
    switch = [box.get("value") for box in by_id(root, "switch").iter("input")]
    assert switch == list(reading_of(root)["measures"]) == ["probability", "entropy"]
    assert by_id(root, "layers").find("tfoot") is None
    assert [len(cells) for cells in cells_of(root)] == [len(row.ids) for row in decoding.rows]
    assert len(by_id(root, "layers").findall("thead/tr/th")) == 1 + max(len(row.ids) for row in decoding.rows)


def test_without_measures_there_is_no_switch():
    rows = tuple(LayerRow(layer, (0, layer % 2), finished=False) for layer in (1, 2))
    root = parsed(render_page(LayerDecoding("shared", 2, (1,), 2, rows, (1, 2)), "p", HEAD, pieces_of(["a", "b"])))
    assert root.find(".//fieldset") is None
    assert [[text_of(cell) for cell in cells] for cells in cells_of(root)] == [["a", "b"], ["a", "a"]]
    assert reading_of(root)["measures"] == {}


# ---------------------------------------------------------------- text


@pytest.mark.parametrize("context", ["shared", "own"])
def test_rows_and_legend_are_the_terminals(context):
    decoding, page = hostile_page(context)
    root = parsed(page)
    (rows,) = (element for element in root.iter("dl") if element.get("class") == "rows")
    for row, line in zip(decoding.rows, rows, strict=True):
        spans = merge(row_spans(row, decoding, pieces_of(HOSTILE), Terminal()))
        assert text_of(line) == f"Layer {row.layer}" + "".join(span.text for span in spans)
        differing = [element.text for element in line.iter("em")]
        assert differing == [span.text for span in spans if span.role == "differs"]
    paragraphs = [text_of(paragraph) for paragraph in root.iter("p")]
    for note in notes(decoding, Glyphs()):
        assert "".join(span.text for span in note) in paragraphs


def skeleton(root):
    """Everything but the text: tags with their attributes, in order."""
    return [(element.tag, element.attrib) for element in root.iter() if element.tag != "meta"]


@given(
    st.lists(st.text(min_size=1, max_size=6) | st.sampled_from(HOSTILE), min_size=6, max_size=6), st.text(max_size=9)
)
@settings(max_examples=60, deadline=None)
def test_no_token_changes_the_page(texts, prompt):
    """Whatever the tokens are, the same elements stand there, and read back as the tokens."""
    measured = made_up(3, 4, 2, len(texts))
    said = "".join(text for text, _, _ in words_on(parsed(render_page(measured, prompt, HEAD, pieces_of(texts)))))
    assert said == shown("".join(texts[token] for token in measured.text_ids), Terminal())
    decoding = replace(measured, rows=tuple(replace(row, surprise_bits=None) for row in measured.rows))
    page = render_page(decoding, prompt, HEAD, pieces_of(texts))  # whose text is one, however its tokens join
    root = parsed(page)
    assert skeleton(root) == skeleton(parsed(render_page(decoding, "p", HEAD, pieces_of(["a"] * len(texts)))))
    for row, cells in zip(decoding.rows, cells_of(root), strict=True):
        assert [token_and_number(cell)[0] for cell in cells] == [shown_alone(texts[token]) for token in row.ids]
    assert set(data_of(root)["names"]) >= {shown_alone(texts[token]) for token in decoding.final_row.ids}
    assert not {"\u202e", "\u2028", "\u2029", "\x00", "\r"} & set(page)


def test_a_prompt_that_is_not_utf8_can_still_be_written():
    decoding = made_up(2, 2, 2)
    page = render_page(decoding, "caf\udce9", HEAD, pieces_of(["a"] * 8))
    assert "caf\\udce9" in page
    page.encode()


# ---------------------------------------------------------------- one file, alone


def test_nothing_else_is_fetched_or_run():
    root = parsed(hostile_page()[1])
    (policy,) = (e.get("content") for e in root.iter("meta") if e.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    (style,) = root.iter("style")
    (script,) = (element for element in root.iter("script") if element.get("type") is None)
    for rule, element in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    addresses = [value for e in root.iter() for name, value in e.attrib.items() if name in ("src", "href", "srcset")]
    assert addresses == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for e in root.iter() for name in e.attrib)
    for word in ("url(", "@import", "http:", "https:", "transition", "animation", "innerHTML"):
        assert word not in style.text + script.text


def test_head_says_where_the_numbers_come_from():
    header = text_of(parsed(hostile_page()[1]).find(".//header"))
    for fact in (r"models/<b>\u202e", "cpu, float32", "torch 2.13.0", "transformers 5.23.0", "document.title"):
        assert fact in header


def test_the_tables_headers_have_a_scope():
    for table in parsed(hostile_page()[1]).iter("table"):
        assert table.find("caption").text
        assert {header.get("scope") for header in table.iter("th")} <= {"row", "col"}


@pytest.mark.parametrize("alphabet", ["etaoin shrdlu", "的一是不了人我在"])
def test_a_long_page_is_small(alphabet):
    """12 layers, 64 tokens, 5 candidates, no two of them the same token."""
    decoding, dice = made_up(12, 64, 5), random.Random(0)
    texts = [" " + "".join(dice.choices(alphabet, k=7 if alphabet.isascii() else 2)) for _ in range(12 * 64 * 5)]
    whys = made_up_whys(decoding)
    assert len(render_page(decoding, "p", HEAD, pieces_of(texts), whys).encode()) < 300_000


def test_making_a_page_imports_no_torch():
    code = "import layer_decoding.files.page.page, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
