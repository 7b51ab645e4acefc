"""Token ids to text: no byte lost, whole characters in the token that completes them, nothing a terminal obeys."""

import codecs
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import COLOUR, PLAIN, Terminal
from layer_decoding.terminal.utf8 import join_bytes
from layer_decoding.views.rows import render_decoding
from row_texts import obeyed

OUR_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
BYTES = st.one_of(
    st.binary(max_size=4), st.sampled_from(["a", "é", "€", "🙂", "\ufffd", "\\", "\\xE2"]).map(str.encode)
)
fragments = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).flatmap(
    lambda text: st.lists(st.integers(0, len(text.encode())), max_size=4).map(lambda cuts: cut(text.encode(), cuts))
)


def cut(row, cuts):
    """A row of bytes cut at some places."""
    edges = [0, *sorted(cuts), len(row)]
    return [row[start:end] for start, end in pairwise(edges)]


def spelt(error):
    """A codec's error handler: each undecodable byte as \\xE2."""
    return "".join(f"\\x{byte:02X}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("spelt", spelt)


# ---------------------------------------------------------------- bytes to characters


@given(st.one_of(st.lists(BYTES, max_size=12), fragments))
@example([b"\xe2", b"\x80", b"\x99"])
@example([b"\xf0\x9f", b"x", b"\x99\x82"])
def test_joining_is_decoding_with_stray_bytes_spelt_out(tokens):
    row = b"".join(tokens)
    pieces = join_bytes(tokens)
    assert len(pieces) == len(tokens)
    assert "".join(pieces) == row.decode("utf-8", "spelt")
    assert "".join(pieces).count("\ufffd") == row.count("\ufffd".encode())


@given(st.one_of(st.lists(BYTES, max_size=12), fragments))
def test_a_character_belongs_to_the_token_with_its_last_byte(tokens):
    pieces = join_bytes(tokens)
    for count in range(len(tokens) + 1):
        so_far = b"".join(tokens[:count]).decode("utf-8", "spelt")
        shown = "".join(pieces[:count])
        assert so_far.startswith(shown)
        # what is held back is the beginning of a character that a later token completes
        assert re.fullmatch(r"(\\x[0-9A-F]{2}){0,3}", so_far[len(shown) :])


@pytest.mark.parametrize(
    "tokens, pieces",
    [
        ([b"caf", b"\xc3", b"\xa9", b"\xe2"], ["caf", "", "é", r"\xE2"]),
        ([b"\xe2\x80", b"\x99s"], ["", "’s"]),
        ([b"\xe2\x80", b"a"], [r"\xE2\x80", "a"]),
        ([b"\xf0", b"\x9f", b"\x99", b"\x82"], ["", "", "", "🙂"]),
        ([b"\xed\xa0\x80"], [r"\xED\xA0\x80"]),  # half of a surrogate pair is no character
        ([b"\xc0\xaf"], [r"\xC0\xAF"]),  # nor is a slash written too long
        ([b"\xff", b"", b"\xef\xbf\xbd"], [r"\xFF", "", "\ufffd"]),  # that one was in the text itself
        ([], []),
    ],
)
def test_joining_by_hand(tokens, pieces):
    assert join_bytes(tokens) == pieces


# ---------------------------------------------------------------- the bundled tokenizer


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("‘It’s’ café 你好 👩‍👧\r\n\t\x1b[31m\u202e")
def test_text_survives_the_bundled_tokenizer(mini, text):
    ids = mini.tokenizer.encode(text)
    pieces = Pieces(mini.tokenizer)
    assert "".join(pieces.of(ids)) == text
    assert pieces.text(ids) == text


def test_pieces_against_the_tokenizers_own_decoding(mini):
    pieces = Pieces(mini.tokenizer)
    for token in range(len(mini.tokenizer)):
        whole = mini.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        if "\ufffd" not in whole:
            assert pieces.of([token]) == [whole]


def test_end_of_text_is_shown_in_tokens_and_left_out_of_text(mini):
    pieces, end = Pieces(mini.tokenizer), mini.tokenizer.eos_token_id
    ids = [*mini.tokenizer.encode("The end"), end]
    assert pieces.of(ids)[-1] == "<|endoftext|>"
    assert pieces.text(ids) == "The end"


def test_an_id_without_a_token_is_shown_by_number(mini):
    beyond = len(mini.tokenizer) + 3
    assert Pieces(mini.tokenizer).of([beyond]) == [f"<{beyond}>"]


# ---------------------------------------------------------------- nothing dangerous


HOSTILE = st.text(
    st.one_of(st.characters(max_codepoint=0xA0), st.sampled_from("\u202e\u2066\u200f\u2028\ufeff\u200b👩‍❤️é你")),
    max_size=8,
)


@given(data=st.data(), width=st.none() | st.integers(20, 200), context=st.sampled_from(["shared", "own"]))
def test_no_token_sequence_reaches_the_terminal_raw(mini, data, width, context):
    """Whatever ids the rows hold, and whatever the prompt: our own colours are all the escapes there are."""
    tokens = st.lists(st.integers(0, len(mini.tokenizer) + 5), min_size=1, max_size=12)
    row = st.one_of(tokens, HOSTILE.map(mini.tokenizer.encode).filter(bool))
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    if context == "shared":
        shortest = min(map(len, rows))
        rows = [ids[:shortest] for ids in rows]
    layer_rows = tuple(LayerRow(layer, tuple(ids), finished=False) for layer, ids in enumerate(rows, 1))
    decoding = LayerDecoding(context, len(rows), (1,), 20, layer_rows, settles_at=None)
    for theme in (PLAIN, COLOUR):
        lines = render_decoding(decoding, data.draw(HOSTILE), Pieces(mini.tokenizer), Terminal(theme, width=width))
        for line in lines:
            assert obeyed(OUR_ESCAPES.sub("", line)) == []
