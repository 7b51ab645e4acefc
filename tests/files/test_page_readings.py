"""What the page shows beside its table: the text in shades, other lenses, and why each token."""

import math
from dataclasses import replace

import pytest

from layer_decoding.files.page.page import render_page
from layer_decoding.files.page.shading import shaded_tables
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.theme import Terminal
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
    through_another,
    token_and_number,
    two_lenses,
    words_on,
)

LENS_PARTS = ("data-notes", "data-rows")  # what the switch between lenses shows one of


# ---------------------------------------------------------------- the text, shaded


def test_the_text_is_shaded_by_the_last_layers_surprise(real_page):
    _, document, page = real_page
    row, root = document["rows"][-1], parsed(page)
    words = words_on(root)
    assert "".join(text for text, _, _ in words) == row["text"]
    assert [text for text, _, _ in words] == row["tokens"]
    surprises = row["surprise_bits"]
    assert [level for _, level, _ in words] == [min(8, int(9 * bits / max(surprises))) for bits in surprises]
    assert all(agrees_with(number, bits) for (_, _, number), bits in zip(words, surprises, strict=True))
    for number, each in enumerate(document["rows"]):
        text = reading_of(root)["text"]
        assert agrees_with(text["highs"][number], max(each["surprise_bits"]))
        assert all(map(agrees_with, text["texts"][number], each["surprise_bits"]))
        assert text["levels"][number].count("8") >= 1


def test_tokens_of_one_character_are_shaded_together_as_the_darkest():
    pieces = ["a", "👩", "\u200d", "👧", " b"]  # three of them make one picture
    bits = (math.inf, 2.0, 9.0, 0.0, 4.5)
    row = LayerRow(1, (0, 1, 2, 3, 4), False, (0.0,) * 5, (0.0,) * 5, (0.0,) * 5, (1,) * 5, bits)
    root = parsed(render_page(LayerDecoding("shared", 1, (0,), 5, (row,), (1,) * 5), "p", HEAD, pieces_of(pieces)))
    assert words_on(root) == [("a", 0, "–"), ("👩\u200d👧", 8, "2.00, 9.00, 0.00"), (" b", 4, "4.50")]


def test_hostile_text_is_shaded_as_text():
    decoding, page = hostile_page()
    said = "".join(text for text, _, _ in words_on(parsed(page)))
    assert said == shown("".join(HOSTILE[token] for token in decoding.text_ids), Terminal())


def test_a_text_that_no_layer_read_is_not_shaded():
    for context in ("own", "shared"):
        decoding = made_up(3, 4, 2, 20, context)
        rows = tuple(replace(row, surprise_bits=None) for row in decoding.rows)
        root = parsed(render_page(replace(decoding, rows=rows), "p", HEAD, pieces_of(["a"] * 20)))
        assert [e for e in root.iter() if e.get("id") in ("text", "shading", "numbered")] == []
        assert "a" * len(decoding.text_ids) in text_of(root.find(".//header"))


# ---------------------------------------------------------------- several lenses, and why


def test_each_lens_has_its_own_numbers_in_common_shades():
    both, page = two_lenses()
    readings = data_of(parsed(page))["readings"]
    rows = [row for decoding in both for row in decoding.rows]
    assert [reading["lens"] for reading in readings] == ["plain", "linear"]
    for decoding, reading in zip(both, readings, strict=True):
        alone = reading_of(parsed(render_page(decoding, "p", HEAD, pieces_of(HOSTILE))))
        for key in ("differs", "settles", "settlesIn"):
            assert reading[key] == alone[key]
        for name, measure in shaded_tables(decoding, rows).items():
            assert reading["measures"][name]["texts"] == alone["measures"][name]["texts"]
            assert reading["measures"][name]["levels"] == ["".join(map(str, row)) for row in measure.levels]
    assert readings[0]["measures"]["kl"]["high"] == readings[1]["measures"]["kl"]["high"]


def test_where_two_lenses_differ_is_marked():
    both, page = two_lenses()
    parted = data_of(parsed(page))["parted"]
    table = [
        [int(one != other) for one, other in zip(*(row.ids for row in rows), strict=True)]
        for rows in zip(*(decoding.rows for decoding in both), strict=True)
    ]
    assert parted["cells"] == ["".join(map(str, row)) for row in table]
    assert set(parted["cells"][-1]) == {"0"}  # a lens leaves the last layer alone
    assert f"{sum(map(sum, table))} of 40 cells: first plain's, below it linear's" in parted["meaning"]


def test_without_a_script_the_first_lens_is_shown_whole_and_named():
    both, page = two_lenses()
    root = parsed(page)
    alone = parsed(render_page(both[0], "p", HEAD, pieces_of(HOSTILE)))
    assert [[token_and_number(cell)[0] for cell in row] for row in cells_of(root)] == [
        [token_and_number(cell)[0] for cell in row] for row in cells_of(alone)
    ]
    shown = {kind: [e for e in root.iter() if kind in e.attrib and "hidden" not in e.attrib] for kind in LENS_PARTS}
    assert [[e.get(kind) for e in shown[kind]] for kind in LENS_PARTS] == [["0"], ["0"]]
    assert "Read through the plain lens" in text_of(shown["data-notes"][0])
    assert "lensesplain, linear" in text_of(root.find(".//header"))
    assert by_id(root, "lenses").get("hidden") is not None


def test_one_lens_needs_no_switch():
    root = parsed(render_page(through_another(made_up(3, 4, 2, 20)), "p", HEAD, pieces_of(["a"] * 20)))
    assert [e for e in root.iter() if e.get("id") == "lenses"] == []
    assert "Read through the linear lens" in text_of(root)


def test_the_bars_are_the_parts_of_each_step():
    decoding = made_up(3, 4, 2, len(HOSTILE))
    whys = made_up_whys(decoding)
    root = parsed(render_page(decoding, "p", HEAD, pieces_of(HOSTILE), whys))
    data = data_of(root)
    assert data["why"]["parts"] == [part.name for part in whys[0].parts]
    for why, step in zip(whys, data["why"]["steps"], strict=True):
        assert [data["names"][step[key]] for key in ("token", "against")] == [
            shown_alone(HOSTILE[token]) for token in (why.token, why.against)
        ]
        logits = [part.logit for part in why.parts]
        assert [float(text) for text in step["logits"]] == pytest.approx(logits, abs=5.1e-4)
        most = max(map(abs, logits))
        assert step["bars"] == [round(100 * logit / most) for logit in logits]
        assert abs(logits[step["largest"][0]]) == most
        assert float(step["difference"]) == pytest.approx(why.difference, abs=5.1e-4)
        assert f"add up to {step['difference']}" in step["sum"]
    assert "held as it is at this position" in text_of(by_id(root, "why"))


def test_where_nothing_is_explained_there_are_no_bars():
    root = parsed(hostile_page()[1])
    assert [element for element in root.iter() if element.get("id") == "why"] == []
    assert data_of(root)["why"]["steps"] == []
