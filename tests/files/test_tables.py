"""The tidy CSV: every number unrounded, and no token that a spreadsheet would run."""

import csv
import io

import pytest
from hypothesis import given, settings

from layer_decoding.files.tables import COLUMNS, safe_for_spreadsheet, to_csv
from measured_decodings import PIECES, measured


@settings(max_examples=40)
@given(measured())
def test_csv_holds_every_number_unrounded(decoding):
    text = to_csv(decoding, PIECES)
    head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert tuple(head) == COLUMNS
    assert text.count("\r\n") == text.count("\n") == len(lines) + 1  # a line is a line, for any reader
    expected = [(row, step) for row in decoding.rows for step in range(len(row.ids))]
    for line, (row, step) in zip(lines, expected, strict=True):
        values = dict(zip(head, line, strict=True))
        assert (int(values["layer"]), int(values["step"]), int(values["id"])) == (row.layer, step + 1, row.ids[step])
        assert values["agrees"] == str(decoding.agrees(row)[step]).lower()
        assert values["token"] == safe_for_spreadsheet(PIECES.of(row.ids)[step])
        for name in ("logprob_nats", "entropy_bits", "kl_to_final_bits", "final_token_rank"):
            column = getattr(row, name)
            assert values[name] == "" if column is None else float(values[name]) == column[step]


@pytest.mark.parametrize(
    "token, written",
    [
        ("=1+1", "'=1+1"),
        ("+", "'+"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("＝1", "'＝1"),
        (" =1", " =1"),
        ("\t=1", r"\t=1"),
        ("\r\n", r"\r\n"),
        ('"', '"'),
        ("\x1b[31m\u202e", r"\x1b[31m\u202e"),
    ],
)
def test_csv_tokens_are_no_formulas_and_no_controls(token, written):
    assert safe_for_spreadsheet(token) == written
