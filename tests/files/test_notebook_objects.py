"""A decoding in a notebook: what it shows, the page in one line, a frame of numbers."""

import csv
import io
import sys
from types import SimpleNamespace

import pytest

from layer_decoding import LayerDecodingError, decode_layers, save_page, show, to_dataframe
from layer_decoding.files.tables import COLUMNS, to_csv
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.pieces import Pieces


@pytest.fixture
def decoding(mini, prompt_ids):
    return decode_layers(mini.model, prompt_ids, 5)


def test_it_shows_itself_as_a_small_table_without_script(decoding, mini):
    html = show(decoding, mini.tokenizer)._repr_html_()
    assert len(html.encode()) < 100_000
    assert html.count("<tr>") == 13
    assert html.count("<td>") == 12 * 5
    assert html.count("<u ") == sum(not same for row in decoding.rows for same in decoding.agrees(row))
    assert "<script" not in html


def test_where_only_text_is_shown_it_is_the_rows(decoding, mini):
    assert repr(show(decoding, mini.tokenizer, "Once")).splitlines()[0] == "Prompt: Once"


def test_nothing_of_a_token_is_markup(mini):
    (token,) = mini.tokenizer.encode("<", add_special_tokens=False)
    hostile = LayerDecoding("shared", 1, (1,), 1, (LayerRow(1, (token,), False),), (1,))
    assert "<b>&lt;</b>" in show(hostile, mini.tokenizer)._repr_html_()


def test_a_page_in_one_line(decoding, mini, tmp_path):
    save_page(decoding, mini, tmp_path / "page.html", "Once")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(LayerDecodingError, match="end it in"):
        save_page(decoding, mini, tmp_path / "page.pdf")


def test_a_frame_has_the_columns_of_the_csv(decoding, mini, monkeypatch):
    """pandas is no dependency: what it would be given is looked at."""
    given = {}
    fake = SimpleNamespace(DataFrame=lambda rows, columns: given.update(rows=rows, columns=columns))
    monkeypatch.setitem(sys.modules, "pandas", fake)
    to_dataframe(decoding, mini.tokenizer)
    assert given["columns"] == list(COLUMNS)
    _, *lines = csv.reader(io.StringIO(to_csv(decoding, Pieces(mini.tokenizer))))
    assert len(given["rows"]) == len(lines) == 12 * 5
    assert [row[:3] for row in given["rows"]] == [[int(cell) for cell in line[:3]] for line in lines]
