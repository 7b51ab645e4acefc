"""From a file to documents: whatever it looks like, nothing that it says is lost unsaid."""

import lzma
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.corpus import cut_if_few, documents_of, read_documents
from layer_decoding.training.data import Documents

MARK = "\n<|endoftext|>\n"


@pytest.fixture
def write(tmp_path):
    """Writes a file, of text or of bytes, and returns its path."""

    def write(content, name="text.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def words_of(documents):
    return sorted(word for document in documents for word in document.split())


def test_short_documents_are_kept(write):
    documents = [f"Number {number}." for number in range(520)]
    training, held_out = read_documents(write(MARK.join(documents)))
    assert sorted(training + held_out) == sorted(documents)
    assert len(held_out) == 10


def test_documents_are_split_once_and_for_all(write):
    path = write(MARK.join(f"Number {number}." for number in range(60)))
    assert read_documents(path) == read_documents(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old"])
def test_line_ends_make_no_difference(write, end):
    text = "\n\n".join(f"Paragraph {number}.\nIts second line. " + "word " * 60 for number in range(40))
    expected = cut_if_few(documents_of(write(text)))
    assert len(expected) > 5
    assert all(document.startswith("Paragraph") for document in expected)
    assert cut_if_few(documents_of(write(text.replace("\n", end).encode()))) == expected


@pytest.mark.parametrize("glue", ["\n\n", "\n", " ", ""], ids=["paragraphs", "lines", "one line", "one word"])
def test_a_text_without_marks_is_cut_where_it_can_be(write, glue):
    pieces = [f"Sentence{number:05}." for number in range(3000)]
    training, held_out = read_documents(write(glue.join(pieces)))
    assert len(training) > 15
    assert max(map(len, training + held_out)) <= 4000
    assert len("".join(held_out)) < 0.06 * len("".join(training))
    if glue:
        assert words_of(training + held_out) == pieces
    else:
        assert len("".join(training + held_out)) == len("".join(pieces))


def test_few_long_documents_are_cut_so_that_little_is_held_out(write):
    documents = [f"{name} " * 5000 for name in ("one", "two", "three")]
    training, held_out = read_documents(write(MARK.join(documents)))
    assert words_of(training + held_out) == words_of(documents)
    assert len("".join(held_out)) < 0.06 * len("".join(training))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=40))
def test_every_character_but_blanks_comes_through(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "any.txt"
    path.write_bytes(text.encode())
    kept = "".join(cut_if_few(documents_of(path)))
    assert re.sub(r"\s", "", kept) == re.sub(r"\s", "", text.removeprefix("\ufeff"))


def test_a_packed_file_is_the_same_text_even_of_two_parts(write):
    text = "\n\n".join("word " * 100 for _ in range(60))
    packed = lzma.compress(text[:9000].encode()) + lzma.compress(text[9000:].encode())
    assert documents_of(write(packed, "text.xz")) == documents_of(write(text))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"a" * 50 + b"\0" * 3, ["3 zero bytes", "convert"]),
        ("Ein Text.".encode("utf-16"), ["UTF-8"]),
        ("Ein Text.".encode("utf-16-le"), ["zero bytes"]),
        (b"caf\xe9", ["UTF-8"]),
        (b"", ["0 characters", "give more text"]),
        (b"\n \n", ["0 characters"]),
        (b"Too short.", ["10 characters"]),
    ],
)
def test_what_is_no_text_is_refused(write, content, words):
    with pytest.raises(LayerDecodingError) as caught:
        read_documents(write(content))
    assert all(word in str(caught.value) for word in ["text.txt", *words])


def test_a_file_held_out_is_scored_and_what_it_shares_is_not_learnt(write):
    text = write(MARK.join(f"Number {number}." for number in range(40)))
    held_out = write(MARK.join([*(f"Number {number}." for number in range(9, 31)), "Another."]), "held.txt")
    data = Documents(text, held_out)
    assert sorted(data.texts) == sorted(f"Number {number}." for number in [*range(9), *range(31, 40)])
    assert len(data.held_out) == 23
    assert "22 of them stand in the text too and are left out there" in data.summary
    assert "stand in" not in Documents(text, write(MARK.join(f"No {n}" for n in range(30)), "new.txt")).summary


def test_few_documents_are_compared_whole_and_cut_afterwards(write):
    """What is held out stays as its file has it."""
    text = write(MARK.join(f"{name} " * 500 for name in ("one", "two", "three")))
    data = Documents(text, write("two " * 500, "held.txt"))
    assert len(data.texts) > 10
    assert words_of(data.texts) == ["one"] * 500 + ["three"] * 500
    assert data.held_out == [("two " * 500).strip()]


def test_a_file_held_out_that_leaves_nothing_to_learn(write):
    text = write(MARK.join(f"Number {number}." for number in range(40)))
    with pytest.raises(LayerDecodingError, match="no text beside"):
        Documents(text, text)
    with pytest.raises(LayerDecodingError, match="is empty"):
        Documents(text, write("", "held.txt"))
