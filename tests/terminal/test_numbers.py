"""Cells: percentages, shades, and texts shortened to fit."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from layer_decoding.results.measures import percent
from layer_decoding.terminal.pieces import alone
from layer_decoding.terminal.shades import CHANCE_ROLES, chance_level
from layer_decoding.terminal.spans import shorten, shorten_left
from layer_decoding.terminal.theme import COLOUR


@pytest.mark.parametrize("probability", [0, 1e-9, 0.00049, 0.0005, 0.0994, 0.0995, 0.5, 0.9949, 0.995, 0.9999999, 1])
def test_percentages_are_short_and_not_far_off(probability):
    said = percent(probability)
    assert len(said) <= 4
    number = float(said.strip("<>%")) / 100
    if said[0] == "<":
        assert 0 < probability < number
    elif said[0] == ">":
        assert number < probability < 1
    else:
        assert number == pytest.approx(probability, abs=0.0051 if number >= 0.1 else 0.00051)
        assert (said in ("0%", "100%")) == (probability in (0, 1))


def test_shades_begin_at_their_bounds():
    assert [chance_level(p) for p in (0, 0.0999, 0.1, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1)] == [
        0,
        0,
        1,
        1,
        2,
        3,
        3,
        4,
        4,
    ]


def test_shades_have_both_colours_of_the_theme():
    """Of the 16 that every terminal theme defines, and no background without a foreground."""
    for role in CHANCE_ROLES[1:]:
        background, foreground = map(int, re.fullmatch(r"\x1b\[(\d+)m\x1b\[(\d+)m", getattr(COLOUR, role)).groups())
        assert background in {*range(40, 48), *range(100, 108)}
        assert foreground in {*range(30, 38), *range(90, 98)}
        assert background - 40 != foreground - 30


@given(st.text(st.sampled_from("ab 你👩\u200d👧\u0301❤\ufe0f🇫🇷"), max_size=12), st.integers(3, 12))
def test_shortening_keeps_an_end_and_fits(text, cells):
    beginning, end = shorten(text, cells, "…"), shorten_left(text, cells, "…")
    assert max(wcswidth(beginning), wcswidth(end)) <= cells
    assert text.startswith(beginning.removesuffix("…"))
    assert text.endswith(end.removeprefix("…"))
    if wcswidth(text) <= cells:
        assert beginning == end == text


def test_nothing_joins_the_next_cell():
    assert alone("\u0301a") == r"\u0301a"
    assert alone("\u20e3") == r"\u20e3"
    assert alone(" 👩\u200d👧e\u0301") == " 👩\u200d👧e\u0301"
