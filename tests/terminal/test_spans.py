"""Lines of spans: nothing lost, nothing too wide, each theme with the room that its marks take."""

from itertools import groupby, pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from wcwidth import wcswidth

from layer_decoding.terminal.spans import Span, cells_of, merge, pad, paint, token_spans, wrap
from layer_decoding.terminal.theme import COLOUR, PLAIN, Terminal
from row_texts import OUR_ESCAPES

WORDS = st.sampled_from(
    ["a", " b", " the", "  ", "é", "你好", "👩‍👧", "❤", "\ufe0f", "\u0301", "🇫", "🇷", "x" * 30, " [ok]", ""]
)
ROLES = st.sampled_from(["plain", "differs", "note", "heading"])
TEXTS = st.lists(WORDS, max_size=4).map("".join)
SPANS = st.lists(st.builds(Span, TEXTS, ROLES, piece=st.booleans()), max_size=12)
WIDTHS = st.integers(4, 200)


def characters(spans):
    """Each character with its role; a leading space has none, since it stays outside of what differs."""
    return [(c, "" if c == " " else span.role) for span in spans for c in span.text]


@given(SPANS, WIDTHS, st.sampled_from([PLAIN, COLOUR]))
@example([Span("5"), Span("\ufe0f", "differs"), Span("\u20e3")], 4, PLAIN)
@example([Span("❤"), Span("\ufe0faaa", piece=True)], 4, PLAIN)  # the selector makes the heart of the span before wide
def test_nothing_is_lost_and_no_line_is_too_wide(spans, cells, theme):
    lines = wrap(spans, cells, theme)
    assert characters(span for line in lines for span in line) == characters(spans)
    for line in lines:
        assert cells_of(line, theme) <= cells
        assert wcswidth(OUR_ESCAPES.sub("", paint(line, theme))) <= cells


@given(SPANS)
def test_without_a_width_there_is_one_line(spans):
    (line,) = wrap(spans, None, PLAIN)
    assert line == merge(spans)


@given(SPANS, WIDTHS)
def test_marks_are_as_few_as_can_be(spans, cells):
    for line in wrap(spans, cells, PLAIN):
        assert all(one.piece != other.piece for one, other in pairwise(line) if one.role == other.role == "differs")
        assert all(span.text for span in line)
        stretches = [list(group) for role, group in groupby(line, key=lambda span: span.role) if role == "differs"]
        assert not any(stretch[0].text.startswith(" ") for stretch in stretches)


def test_marks_are_the_same_wrapped_or_not():
    """A fragment of a character has an empty span, which belongs to the stretch around it."""
    spans = [Span(" a", "differs"), Span(""), Span("b", "differs")]
    assert [paint(line, PLAIN) for line in wrap(spans, None, PLAIN)] == [" [ab]"]
    assert [paint(line, PLAIN) for line in wrap(spans, 40, PLAIN)] == [" [ab]"]


def test_words_by_hand():
    spans = [Span(" and the"), Span(" little", "differs"), Span(" girl was")]
    assert [paint(line, PLAIN) for line in wrap(spans, 18, PLAIN)] == [" and the [little]", " girl was"]
    assert [paint(line, PLAIN) for line in wrap(spans, 17, PLAIN)] == [" and the [little]", " girl was"]
    assert [paint(line, PLAIN) for line in wrap(spans, 16, PLAIN)] == [" and the", " [little] girl", " was"]
    assert [paint(line, PLAIN) for line in wrap([Span(" 你好世界")], 6, PLAIN)] == [" 你好", "世界"]
    assert wrap([], 10, PLAIN) == [[]]


def test_no_room_is_kept_for_marks_that_are_not_drawn():
    spans = [Span(" and the"), Span(" little", "differs"), Span(" girl")]
    plain, coloured = (
        [OUR_ESCAPES.sub("", paint(line, theme)) for line in wrap(spans, 16, theme)] for theme in (PLAIN, COLOUR)
    )
    assert plain == [" and the", " [little] girl"]
    assert coloured == [" and the little", " girl"]


def test_a_glued_span_stays_with_its_word():
    row = [Span(" one two"), Span("  9/20", "note", glued=True)]
    assert [paint(line, PLAIN) for line in wrap(row, 12, PLAIN)] == [" one", " two  9/20"]


def test_a_glued_span_is_never_cut():
    for length in range(1, 60):
        lines = wrap([Span("x" * length), Span("  12/20", "note", glued=True)], 20, PLAIN)
        assert sum("12/20" in paint(line, PLAIN) for line in lines) == 1, length


def test_padding_counts_cells():
    assert pad("你好", 6) == "你好  "
    assert pad("Layer 9:", 9) == "Layer 9: "
    assert pad("too long", 3) == "too long"


# ---------------------------------------------------------------- pieces of words


def underlined(texts, same=None):
    """The tokens of a row that are set off from their neighbours."""
    spans = token_spans(texts, same or [True] * len(texts), Terminal())
    return [span.text for span in spans if span.piece]


def test_every_other_piece_of_a_word_is_set_off():
    assert underlined([" little", "ny", "te", "ish", "red", " and", " the", "o"]) == ["ny", "ish", "o"]
    assert underlined([" man", ",", " and", "\n", "so", "'s", " 5", "6"]) == ["6"]  # no commas, no lines, no spaces
    assert underlined(["你", "", "好"]) == ["好"]


def test_pieces_look_different_in_colour_alone():
    """Where marks are drawn they stand around the word: its pieces are one stretch there."""
    spans = token_spans([" li", "tt", "le", " gi", "rl"], [False, False, False, True, True], Terminal())
    for cells in (None, 40):
        assert [paint(line, PLAIN) for line in wrap(spans, cells, PLAIN)] == [" [little] girl"]
        (line,) = [paint(line, COLOUR) for line in wrap(spans, cells, COLOUR)]
        off, differs, agrees = COLOUR.reset, COLOUR.differs, COLOUR.agrees
        assert line == (
            f" {differs}li{off}{differs}{COLOUR.piece}tt{off}{differs}le{off}"
            f"{agrees} gi{off}{agrees}{COLOUR.piece}rl{off}"
        )
    assert cells_of(spans, PLAIN) == len(" [little] girl")
