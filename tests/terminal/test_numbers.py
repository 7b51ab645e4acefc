"""Cells: percentages, shades, and texts shortened to fit."""

import io
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from contrasts import contrast, luminance
from layer_decoding.results.measures import percent
from layer_decoding.terminal.pieces import alone
from layer_decoding.terminal.shades import CHANCE_ROLES, chance_level
from layer_decoding.terminal.spans import shorten, shorten_left
from layer_decoding.terminal.theme import COLOUR, PLAIN, theme_of


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


def rgb_of_cube(number):
    """A colour of the 6 x 6 x 6 that xterm defines from 16 on, as ff0000."""
    levels = (0, 95, 135, 175, 215, 255)
    red, rest = divmod(number - 16, 36)
    return "".join(f"{levels[at]:02x}" for at in (red, *divmod(rest, 6)))


@pytest.mark.parametrize("environ", [{"COLORTERM": "truecolor"}, {"TERM": "xterm-256color"}, {"TERM": "xterm-direct"}])
def test_blues_go_from_light_to_dark_and_can_be_read(environ):
    theme = theme_of(io.StringIO(), "always", environ)
    pairs = []
    for role in CHANCE_ROLES[1:]:
        numbers = re.fullmatch(r"\x1b\[48;5;(\d+)m\x1b\[38;5;(\d+)m", getattr(theme, role)).groups()
        pairs.append([rgb_of_cube(int(number)) for number in numbers])
    assert all(contrast(*pair) >= 4.5 for pair in pairs)
    backs = [luminance(back) for back, _ in pairs]
    assert backs == sorted(backs, reverse=True)
    assert all((one + 0.05) / (other + 0.05) > 1.25 for one, other in pairwise(backs))
    for back, _ in pairs:
        red, green, blue = (int(back[at : at + 2], 16) for at in (0, 2, 4))
        assert red <= green <= blue


# (bright white, bright cyan, cyan, blue) of the terminals that most people have.
CYANS = {
    "xterm": ("ffffff", "00ffff", "00cdcd", "0000ee"),
    "VS Code, dark": ("e5e5e5", "29b8db", "11a8cd", "2472c8"),
    "VS Code, light": ("a5a5a5", "0598bc", "0598bc", "0451a5"),
    "GNOME Terminal": ("ffffff", "33c7de", "2aa1b3", "12488b"),
    "Terminal.app": ("e9ebeb", "14f0f0", "33bbc8", "492ee1"),
}


@pytest.mark.parametrize("palette", CYANS.values(), ids=CYANS)
def test_sixteen_colours_go_from_light_to_dark_in_every_palette(palette):
    backs = [getattr(COLOUR, role).partition("m")[0] for role in CHANCE_ROLES[1:]]
    assert backs == ["\x1b[107", "\x1b[106", "\x1b[46", "\x1b[44"]
    assert list(map(luminance, palette)) == sorted(map(luminance, palette), reverse=True)


def test_sixteen_where_no_more_are_promised():
    for environ in ({}, {"TERM": "xterm"}, {"TERM": "linux", "COLORTERM": "1"}):
        assert theme_of(io.StringIO(), "always", environ) is COLOUR
        assert theme_of(io.StringIO(), "never", {"COLORTERM": "truecolor"} | environ) is PLAIN


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
