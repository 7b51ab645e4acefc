"""What a terminal obeys or does not show is spelt out, an emoji stays whole; each character counted as it is drawn."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from layer_decoding.terminal.hidden import escape, whole_emoji
from layer_decoding.terminal.pieces import alone
from layer_decoding.terminal.spans import Span, cells_of, merge, paint, token_spans
from layer_decoding.terminal.theme import PLAIN, Terminal
from row_texts import obeyed

# Default_Ignorable_Code_Point of Unicode 18, first and last of each range.
IGNORABLE = [
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
]
HIDDEN = [
    *IGNORABLE,
    (0xFFF9, 0xFFFB),
    (0x2028, 0x2029),
    (0x2800, 0x2800),
    (0x80, 0x9F),
    (0x378, 0x379),
    (0xFFFF, 0xFFFF),
]
FAMILY = "👩\u200d👩\u200d👧\u200d👦"
EMOJI = [
    FAMILY,
    "❤\ufe0f",
    "❤\ufe0f\u200d🔥",
    "🏃🏽\u200d♀\ufe0f",
    "5\ufe0f\u20e3",
    "🇫🇷",
    "👋🏽",
    "©\ufe0f",
    "↔\ufe0f",
    "ℹ\ufe0f",
]


def test_every_dangerous_character_is_spelt_out():
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert obeyed(every)
    assert obeyed(set(escape(every))) == []
    assert obeyed(escape("a\nb", newline="↵")) == []


@pytest.mark.parametrize("first, last", HIDDEN)
def test_what_shows_nothing_is_spelt_out(first, last):
    for code in range(first, last + 1):
        right = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        assert escape(f"a{chr(code)}b") == f"a{right}b"


def test_unassigned_characters_are_spelt_out():
    unassigned = "".join(c for c in map(chr, range(0x110000)) if unicodedata.category(c) == "Cn")
    assert [c for c in set(escape(unassigned)) if not c.isascii()] == []


def test_nothing_smuggled_survives():
    """A secret in variation selectors after an emoji, one in tags, one in joiners."""
    secret = "".join(chr(0xE0100 + byte) for byte in b"secret")
    tags = "".join(chr(0xE0000 + byte) for byte in b"secret")
    joiners = "\u200b\u200c\u200d\ufe0f\ufe0e" * 3
    for hidden in (secret, tags, joiners, "\u3164" * 9):
        shown = escape(f"😀{hidden}x")
        assert all(unicodedata.category(c) not in ("Cf", "Mn", "Cn", "Lo") for c in shown)
        assert len(shown) >= len("😀x") + 5 * len(hidden) - 9


def test_what_is_drawn_stays():
    """Letters and marks of every script, signs under numbers, symbols, and what is for private use."""
    for text in ("e\u0301", "שלום", "नमस्ते", "\u0600١", "한글", "你好", "∑", "ﬁ", "\ue0b0", "\xa0", "\u3000"):
        assert escape(text) == text


def test_joiners_of_letters_are_spelt_out():
    assert escape("می\u200cخواهم") == "می\\u200cخواهم"
    assert escape("क्\u200dष") == "क्\\u200dष"


@pytest.mark.parametrize("emoji", EMOJI)
def test_an_emoji_stays_whole(emoji):
    assert escape(f"a{emoji}b {emoji}") == f"a{emoji}b {emoji}"


def test_what_only_looks_like_a_part_of_one_does_not():
    assert escape("👩\u200d") == "👩\\u200d"
    assert escape("\u200d👩") == "\\u200d👩"
    assert escape("👩\u200da") == "👩\\u200da"
    assert escape("a\ufe0f") == "a\\ufe0f"
    assert escape("+\ufe0f5\ufe0f") == "+\\ufe0f5\\ufe0f"
    assert escape("❤\ufe0f\ufe0f") == "❤\ufe0f\\ufe0f"
    assert escape("👩\u200d\u200d👧") == "👩\\u200d\\u200d👧"


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("👩👧❤\u200d\ufe0f5\u20e3")))
def test_escaping_is_done_once(text):
    assert escape(escape(text)) == escape(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_escaping_leaves_everything_else(text):
    kept = [character for character in text if escape(character) == character]
    assert [c for c in escape("".join(kept))] == kept  # noqa: C416


# ---------------------------------------------------------------- in a row of tokens


TOKENS = st.sampled_from(
    ["👩", "\u200d", "👧", "❤", "\ufe0f", "a", " b", "", "👩\u200d", "\u200d👧\u200d", "5", "\u20e3"]
)


@given(st.lists(TOKENS, max_size=9))
def test_an_emoji_stands_whole_where_it_is_completed(texts):
    whole = whole_emoji(texts)
    assert len(whole) == len(texts)
    assert "".join(whole) == "".join(texts)
    assert "".join(map(escape, whole)) == escape("".join(texts))


def test_a_family_of_several_tokens_by_hand():
    texts = [" my", " 👩", "\u200d", "👧", "!", "❤", "\ufe0f"]
    assert whole_emoji(texts) == [" my", " ", "", "👩\u200d👧", "!", "", "❤\ufe0f"]
    spans = token_spans(texts, [True, True, True, False, True, True, True], Terminal())
    assert paint(spans, PLAIN) == " my [👩\u200d👧]!❤\ufe0f"


@given(st.lists(TOKENS, max_size=9), st.lists(st.booleans(), min_size=9, max_size=9))
def test_a_row_is_counted_as_it_is_drawn(texts, same):
    """Whatever differs in it: no mark stands inside an emoji, so that the parts are as wide as the whole."""
    spans = token_spans(texts, same[: len(texts)], Terminal())
    assert cells_of(spans, PLAIN) == wcswidth(paint(merge(spans), PLAIN))


def test_a_family_is_two_cells_wherever_it_stands():
    assert cells_of([Span(FAMILY)], PLAIN) == cells_of([Span("a"), Span(FAMILY, "differs")], PLAIN) - 3 == 2
    assert alone(escape(FAMILY)) == FAMILY
