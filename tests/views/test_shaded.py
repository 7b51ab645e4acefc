"""The text shaded by how surprising each token was: numbers against their definition, colour against marks, by hand."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

from layer_decoding import UsageError
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.terminal.theme import COLOUR, PLAIN, Terminal
from layer_decoding.views.shaded import render_shaded
from row_texts import OUR_ESCAPES, PIECES, TABLE, words


def decoding_of(ids, *bits):
    """A text and how surprised layers 1, 2, … were at its tokens."""
    rows = tuple(LayerRow(layer, tuple(ids), False, surprise_bits=row) for layer, row in enumerate(bits, 1))
    return LayerDecoding("shared", len(bits), (1,), 20, rows, None)


@st.composite
def texts(draw):
    ids = draw(st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=14))
    row = st.lists(st.floats(0, 40) | st.just(math.inf), min_size=len(ids), max_size=len(ids)).map(tuple)
    return decoding_of(ids, draw(row), draw(row))


@settings(max_examples=40)
@given(texts(), st.none() | st.integers(24, 120), st.booleans())
def test_colour_is_decoration(decoding, cells, numbered):
    """But for the bars, which stand in for the shades: they are marks."""
    measure = BY_OPTION["surprise"] if numbered else None
    plain, coloured = (
        render_shaded(decoding, "p", PIECES, Terminal(theme, width=cells), None, measure) for theme in (PLAIN, COLOUR)
    )
    bare = [OUR_ESCAPES.sub("", line) for line in coloured]
    assert words(re.sub("[▂▄▆█]", "", "".join(bare))) == words(re.sub("[▂▄▆█]", "", "".join(plain)))
    for line in coloured:
        assert (OUR_ESCAPES.findall(line) or [COLOUR.reset])[-1] == COLOUR.reset
    for line in [*bare, *plain] if cells else []:
        assert wcswidth(line) <= cells


def test_by_hand():
    """Shades of five steps up to the largest number in the rows shown; the space before a word is in none."""
    decoding = decoding_of([0, 1, 2, 3], (10.0, 4.0, 1.9, 2.0), (5.0, 0.0, 3.0, 0.5))
    lines = render_shaded(decoding, "p", PIECES, Terminal())
    assert lines[2:4] == ["Layer 1:  █and ▄the little▂,", "Layer 2:  ▄and the ▂little,"]
    assert lines[-1].endswith("▂2.00-4.00  ▄4.00-6.00  ▆6.00-8.00  █8.00-10.0")
    only = render_shaded(decoding, "p", PIECES, Terminal(), [2])
    assert only[2:4] == ["Layer 2:  █and the ▆little,", ""]
    numbered = render_shaded(decoding, "p", PIECES, Terminal(), [2], BY_OPTION["surprise"])
    assert numbered[2] == "Layer 2:  █and(5.00) the(0.00) ▆little(3.00),(0.50)"


def test_in_colour_by_hand():
    decoding = decoding_of([0, 1], (1.0, 0.0))
    (line,) = [line for line in render_shaded(decoding, "p", PIECES, Terminal(COLOUR)) if "Layer 1:" in line][:1]
    assert line == f"{COLOUR.heading}Layer 1:{COLOUR.reset}  {COLOUR.sure}and{COLOUR.reset} the".replace(
        f":{COLOUR.reset} ", f": {COLOUR.reset}"
    )


def test_a_character_of_several_tokens_has_the_darkest_of_their_shades():
    decoding = decoding_of([14, 15, 16], (10.0, 0.0, 1.0))
    assert render_shaded(decoding, "p", PIECES, Terminal())[2] == "Layer 1: █’"
    numbered = render_shaded(decoding, "p", PIECES, Terminal(), None, BY_OPTION["surprise"])
    assert numbered[2] == "Layer 1: █’(10.0, 0.00, 1.00)"


def test_own_context_has_no_one_text():
    own = LayerDecoding("own", 1, (1,), 20, (LayerRow(1, (0,), False),), None)
    with pytest.raises(UsageError, match="text of its own"):
        render_shaded(own, "p", PIECES, Terminal())
