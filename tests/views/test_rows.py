"""The greedy script's answer as lines: goldens, the same words in colour and without, alignment, the numbers shown."""

import re
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import goldens
from layer_decoding.results.greedy import LayerDecoding, LayerRow, partial_decoding
from layer_decoding.terminal.alignment import common_positions, common_prefix
from layer_decoding.terminal.hidden import whole_emoji
from layer_decoding.terminal.pieces import visible
from layer_decoding.terminal.theme import ASCII, PLAIN, Glyphs, Terminal
from layer_decoding.views.rows import render_decoding, render_growing, render_rows, settles_lines, settling
from row_texts import PIECES, TABLE, assert_colour_is_decoration, words


@st.composite
def decodings(draw, given_text=False):
    """Small decodings of every shape: both contexts, skipped layers, layer 0, texts that ended early."""
    context = draw(st.sampled_from(["shared", "own"]))
    layers = sorted(draw(st.sets(st.integers(0, 12), min_size=1, max_size=4)))
    length = draw(st.integers(1, 14))
    row = st.lists(st.integers(0, len(TABLE) - 1), min_size=1 if context == "own" else length, max_size=length)
    rows = tuple(LayerRow(layer, tuple(draw(row)), finished=False) for layer in layers)
    settles = tuple(draw(st.lists(st.integers(1, 12), min_size=length, max_size=length)))
    settled = settles if context == "shared" else None
    text = tuple(draw(row)) if given_text and settled else ()
    return LayerDecoding(context, layers[-1], (1,), 20, rows, settled, (), text)


# ---------------------------------------------------------------- goldens


@pytest.mark.parametrize("view", goldens.VIEWS)
@pytest.mark.parametrize("name", goldens.RESULTS)
def test_golden(name, view):
    """A deliberate change: python tests/tools/make_goldens.py, then read the difference."""
    assert goldens.rendered(name, view) == goldens.golden(name, view).read_bytes().decode()


# ---------------------------------------------------------------- colour and marks


@given(decodings() | decodings(given_text=True), st.none() | st.integers(20, 200), st.sampled_from([Glyphs(), ASCII]))
def test_colour_without_escapes_is_plain_without_marks(decoding, width, glyphs):
    assert_colour_is_decoration(
        lambda terminal: render_decoding(decoding, "A [long] time\n", PIECES, terminal), width, glyphs
    )


@given(decodings())
def test_marks_hold_exactly_the_tokens_that_differ(decoding):
    """Marks from outside of every token's alphabet: what is between them, what is not, and the count agree."""
    terminal = Terminal(replace(PLAIN, marks=("⟦", "⟧")))
    _, _, *lines = render_rows(decoding, "p", PIECES, terminal)
    for row, line in zip(decoding.rows, lines, strict=True):
        label, _, shown = line.partition(":")
        assert label == f"Layer {row.layer}"
        pieces = whole_emoji(PIECES.of(row.ids))
        same = common(row, decoding)
        if row is not decoding.final_row:
            shown, _, count = shown.rpartition("  ")
            assert count == f"{sum(same)}/{len(decoding.final_row.ids)}"
        marked = "".join(re.findall("⟦(.*?)⟧", shown))
        assert words(re.sub("[⟦⟧│]", "", shown)) == words("".join(visible(piece, Terminal()) for piece in pieces))
        assert words(marked) == words("".join(visible(text, Terminal()) for text in differing(pieces, same)))


def common(row, decoding):
    """Which tokens of a row should stand unmarked."""
    final = decoding.final_row.ids
    if decoding.context == "shared":
        return [ours == theirs for ours, theirs in zip(row.ids, final, strict=True)]
    positions = {ours for ours, _ in common_positions(row.ids, final)}
    return [position in positions for position in range(len(row.ids))]


def differing(pieces, same):
    """The pieces to be marked: a character differs if any of the tokens that make it up does."""
    started = 0
    for position, piece in enumerate(pieces):
        if piece:
            if not all(same[started : position + 1]):
                yield piece
            started = position + 1


@given(decodings())
def test_piped_output_is_one_line_a_row(decoding):
    lines = render_decoding(decoding, "two\nlines", PIECES, Terminal())
    assert lines[0] == "Prompt: two↵lines"
    assert [line.partition(":")[0] for line in lines[2 : 2 + len(decoding.rows)]] == [
        f"Layer {row.layer}" for row in decoding.rows
    ]
    assert lines[2 + len(decoding.rows)] == ""


@given(decodings(), st.integers(20, 60))
def test_following_lines_stand_under_the_first(decoding, width):
    lines = render_rows(decoding, "p", PIECES, Terminal(width=width))[2:]
    indent = len(f"Layer {decoding.layer_count}:")
    for line in lines:
        assert re.match(rf"Layer \d+: *|\s{{{indent}}}", line)
    assert sum(line.startswith("Layer") for line in lines) == len(decoding.rows)


# ---------------------------------------------------------------- alignment


def brute_force(row, other):
    """The length of a longest common subsequence, by trying them all, longest first."""
    for size in range(min(len(row), len(other)), 0, -1):
        theirs = set(combinations(other, size))
        if any(chosen in theirs for chosen in combinations(row, size)):
            return size
    return 0


SHORT = st.lists(st.integers(0, 3), max_size=8)


@given(SHORT, SHORT)
def test_alignment_is_a_longest_common_subsequence(row, other):
    pairs = common_positions(row, other)
    assert all(row[ours] == other[theirs] for ours, theirs in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    assert len(pairs) == brute_force(row, other) == len(common_positions(other, row))
    prefix = common_prefix(row, other)
    assert row[:prefix] == other[:prefix]
    assert prefix in (len(row), len(other)) or row[prefix] != other[prefix]
    assert pairs[:prefix] == [(position, position) for position in range(prefix)]


def test_own_context_by_hand():
    rows = (
        (1, (0, 1, 3, 0, 2)),
        (2, (0, 1, 0, 2, 3, 7)),
        (3, (0, 1, 0, 2, 3)),
        (4, (0, 1, 0, 2)),
        (5, (0, 1, 0, 2, 3)),
    )
    decoding = LayerDecoding("own", 5, (1,), 6, tuple(LayerRow(n, ids, finished=False) for n, ids in rows), None)
    assert render_rows(decoding, "p", PIECES, Terminal())[2:] == [
        "Layer 1:  and the│[,] and little  4/5",  # left at its third token, found again after it
        "Layer 2:  and the and little,│[I]  5/5",  # went on after the end
        "Layer 3:  and the and little,  5/5",  # never left
        "Layer 4:  and the and little│  4/5",  # ended before
        "Layer 5:  and the and little,",
    ]


# ---------------------------------------------------------------- what is said


def test_fragments_differ_with_the_character_they_make_up():
    """Whichever of its tokens differs; bytes that make up none stand for themselves."""
    table = goldens.StoredPieces([b" caf", b"\xc3", b"\xa9", b"\xa8", b"\xe2", b"\xc2"])
    rows = {1: [0, 1, 3], 2: [0, 5, 2], 3: [0, 4, 2], 4: [0, 1, 2]}
    assert render_rows(partial_decoding("shared", 4, [1], 3, rows), "p", table, Terminal())[2:] == [
        "Layer 1:  caf[è]  2/3",
        "Layer 2:  caf[©]  2/3",
        r"Layer 3:  caf[\xE2]\xA9  2/3",
        "Layer 4:  café",
    ]


@pytest.mark.parametrize(
    "text, shown",
    [
        (" ", "·"),
        ("  \n", "··↵"),
        (" a b", " a b"),
        ("\n\n", "↵↵"),
        ("a\n", "a↵"),
        ("\t", r"\t"),
        ("\r\n", r"\r↵"),
        ("", ""),
    ],
)
def test_tokens_of_nothing_but_space_are_seen(text, shown):
    assert visible(text, Terminal()) == shown


@pytest.mark.parametrize("blank", ["\xa0", "\u2003", "\u3000"])
def test_other_blanks_are_seen_too(blank):
    """Red, or between marks, a blank is nothing to look at."""
    assert visible(blank, Terminal()) != blank


def test_settling_counts_every_token():
    said = settling([12, 1, 12, 3], Glyphs())
    assert re.findall(r"(\d+) ×(\d+)", said) == [("1", "1"), ("3", "1"), ("12", "2")]
    assert "×" not in settling([1], ASCII)


def test_each_token_with_the_layer_at_which_it_settles():
    rows = {1: [0, 1, 2, 14], 12: [0, 13, 2, 14]}
    decoding = replace(partial_decoding("shared", 12, [1], 4, rows), settles_at=(1, 12, 3, 7))
    said = ["Settles:    and 1 " + "-" * 40 + r" 12  little 3 \xE2 7"]
    assert settles_lines(decoding, PIECES, Terminal()) == said
    narrow = settles_lines(decoding, PIECES, Terminal(width=60))
    assert narrow == ["Settles:    and 1", "          " + " " + "-" * 40 + " 12", r"            little 3 \xE2 7"]
    assert settles_lines(replace(decoding, settles_at=None), PIECES, Terminal()) == []


def test_the_legend_says_what_a_row_is():
    shared, own = ("\n".join(goldens.rendered(name, "unwrapped").splitlines()[-5:]) for name in ("shared", "own"))
    assert "Settles at" in shared
    assert "Settles at" not in own
    assert "n/20" in shared
    assert "n/16" in own
    assert "[so]" in shared
    assert "[so]" in own


@given(decodings())
def test_a_view_under_way_is_rendered_as_the_end_is(decoding):
    rows = {row.layer: list(row.ids) for row in decoding.rows}
    partial = partial_decoding(decoding.context, decoding.layer_count, [1], 20, rows)
    assert render_rows(partial, "p", PIECES, Terminal(width=40)) == render_rows(
        decoding, "p", PIECES, Terminal(width=40)
    )


def test_rows_that_outgrow_the_screen_keep_their_ends():
    """Whole as long as they fit; then a line each, up to the newest token; of too many rows the last."""
    rows = {layer: [0, 1, 2] * 9 for layer in range(1, 13)}
    decoding = partial_decoding("shared", 12, [1], 40, rows)
    whole = render_rows(decoding, "p", PIECES, Terminal(width=40))
    assert len(whole) > 20
    assert render_growing(decoding, "p", PIECES, Terminal(width=40), len(whole)) == whole
    for height in (20, 14, 9):
        lines = render_growing(decoding, "once " * 30, PIECES, Terminal(width=40), height)
        assert len(lines) == min(height, 14)
        assert max(map(len, lines)) <= 40
        assert lines[0].startswith("Prompt: …nce once")
        assert lines[-1] == "Layer 12: … the little and the little"
        assert [line.partition(":")[0] for line in lines[2:]] == [f"Layer {n}" for n in range(13 - len(lines) + 2, 13)]
        assert all(line.endswith("  27/27") for line in lines[2:-1])


def test_a_token_that_is_right_does_not_look_wrong():
    """Along a given text: marked is what neither the last layer says nor the text has; agreement is counted alone."""
    decoding = LayerDecoding(
        *("shared", 2, (1,), 3),
        (LayerRow(1, (0, 1, 2), False), LayerRow(2, (0, 3, 3), False)),
        None,
        text_ids=(0, 1, 7),
    )
    assert render_rows(decoding, "p", PIECES, Terminal())[2:] == [
        "Layer 1:  and the [little]  1/3",
        "Layer 2:  and,,",
        "Text:     and theI  1/3",
    ]
    assert "from layer 2's and from the text's own" in " ".join(render_decoding(decoding, "p", PIECES, Terminal()))
