"""Columns beside each other and cut into panels, a text beside its numbers: nothing lost, nothing too wide."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from wcwidth import wcswidth

from layer_decoding.terminal.columns import Column, beside, even_panels, panels, prompt_lines, table
from layer_decoding.terminal.spans import Span
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Terminal
from row_texts import OUR_ESCAPES, words

TEXTS = st.sampled_from(["", "a", " the", "你好", "-" * 9, "12.5", "e\u0301"])
CELLS = st.builds(lambda text, role: [Span(text, role)], TEXTS, st.sampled_from(["plain", "differs", "heading"]))
COLUMNS = st.lists(
    st.builds(Column, st.tuples(CELLS, CELLS), st.integers(0, 2), st.booleans()), min_size=1, max_size=12
)


@given(COLUMNS, st.integers(1, 60))
def test_panels_are_as_few_as_fit_and_hold_every_column_once(columns, room):
    for cut in (panels, even_panels):
        stretches = cut(columns, room)
        assert [column for stretch in stretches for column in stretch] == columns
        assert all(len(stretch) == 1 or sum(c.width for c in stretch) <= room for stretch in stretches)
    filled = panels(columns, room)
    for stretch, following in pairwise(filled):
        assert sum(column.width for column in [*stretch, following[0]]) > room
    assert len(even_panels(columns, room)) == len(filled)


@given(COLUMNS)
def test_even_panels_are_none_wider_than_they_must_be(columns):
    widths = [sum(column.width for column in stretch) for stretch in even_panels(columns, 40)]
    assert max(widths) <= max(sum(column.width for column in stretch) for stretch in panels(columns, 40))
    assert panels(columns, None) == even_panels(columns, None) == [columns]


def test_panels_by_hand():
    columns = [Column([[Span("x" * 4)]]) for _ in range(5)]  # of 5 cells each
    assert [len(stretch) for stretch in panels(columns, 20)] == [4, 1]
    assert [len(stretch) for stretch in even_panels(columns, 20)] == [3, 2]


def test_a_table_by_hand():
    """The head is one heading; a column is as wide as its widest cell, with the marks that its theme draws."""
    plain, coloured = (
        [
            Column([[Span("a")], [Span("one", "heading")], [Span("x")]], gap=0),
            Column([[Span("b")], [Span(" 你", "differs")], [Span("y")]], theme=theme),
            Column([[Span("n")], [Span("9")], [Span("10")]], gap=2, right=True),
        ]
        for theme in (PLAIN, COLOUR)
    )
    assert table(plain, Terminal(), heads=1) == ["a   b       n", "one  [你]   9", "x   y      10"]
    assert table(coloured, Terminal(COLOUR), heads=1) == [
        "\x1b[1ma   b     n\x1b[0m",
        f"\x1b[1mone\x1b[0m  {COLOUR.paint('你', 'differs')}   9",
        "x   y    10",
    ]


@given(COLUMNS, st.sampled_from([PLAIN, COLOUR]))
def test_a_table_is_as_wide_as_its_columns(columns, theme):
    for line in table(columns, Terminal(theme)):
        assert wcswidth(OUR_ESCAPES.sub("", line)) <= sum(column.width for column in columns)


HEADS = st.sampled_from(
    [[Span("1", "heading"), Span("  -1.25")], [Span("greedy", "heading"), Span("  -12345.678  20")]]
)


@given(HEADS, st.lists(TEXTS, max_size=20).map("".join), st.integers(30, 80), st.sampled_from([PLAIN, COLOUR]))
@example([Span("x" * 39)], "a", 39, PLAIN)
def test_a_text_beside_its_numbers_or_under_them(head, text, width, theme):
    lines = beside(head, [Span(text)], Terminal(theme, width=width), gap=1, under=2)
    bare = [OUR_ESCAPES.sub("", line) for line in lines]
    assert words("".join(bare)) == words("".join(span.text for span in head) + text)
    assert all(wcswidth(line) <= width for line in bare)
    start = sum(wcswidth(span.text) for span in head) + 1
    assert bare[1:] == [] or {line[: start if width - start >= 24 else 2] for line in bare[1:]} == {
        " " * (start if width - start >= 24 else 2)
    }


def test_beside_by_hand():
    head, text = [Span("1", "heading"), Span("  -1.25")], [Span(" one two three four five")]
    assert beside(head, text, Terminal(), 1, 2) == ["1  -1.25  one two three four five"]
    assert beside(head, text, Terminal(width=33), 1, 2) == ["1  -1.25  one two three four five"]
    assert beside(head, text, Terminal(width=32), 1, 2) == ["1  -1.25", "   one two three four five"]
    assert beside(head, text, Terminal(width=20), 1) == ["1  -1.25  one two", "          three four", "          five"]


def test_a_prompt_is_measured_as_its_stream_will_write_it():
    terminal = Terminal(glyphs=ASCII, width=20, encoding="ascii")
    assert prompt_lines("a\n你好", terminal) == ["Prompt: a\\n\\u4f60\\u5", "       97d"]
    assert prompt_lines("a\n你好", Terminal(width=20)) == ["Prompt: a↵你好"]
