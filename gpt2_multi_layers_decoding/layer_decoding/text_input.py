"""A text from a file or stdin, and its token ids."""

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from layer_decoding.arguments import decode_text, read_stdin, stdin_is_given
from layer_decoding.errors import LayerDecodingError, UsageError

STANDARD_INPUT = "-"
_PIECE_CHARACTERS = 2**16
# Before the space of a word, or at the beginning of a line that has text on both sides of the newline: GPT-2's
# rule for splitting a text into words puts a boundary there whatever else stands around it.
_SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


def read_text(argument: str | None) -> str:
    """The text of a file, or of stdin for '-' or when it is a pipe or a file; one trailing newline is dropped.

    Raises:
        UsageError: no text named, or an empty one.
        LayerDecodingError: the file cannot be read, or it is not UTF-8 text.
    """
    if argument == "" or (argument is None and not stdin_is_given()):
        raise UsageError("There is no text to read; name a file, or - for standard input.")
    if argument in (None, STANDARD_INPUT):
        name, text = "Standard input", read_stdin()
    else:
        name, text = f"'{argument}'", _read_file(str(argument))
    if "\0" in text:
        raise LayerDecodingError(f"{name} is not text: it has a zero byte; give a UTF-8 text file.")
    if not text:
        raise UsageError(f"{name} is empty; give a text of at least two tokens.")
    return text


def _read_file(path: str) -> str:
    try:
        return decode_text(Path(path).read_bytes(), f"'{path}'")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        reason = getattr(error, "strerror", None) or error
        raise LayerDecodingError(
            f"Cannot read '{path}' ({reason}); give a text file, or - for standard input."
        ) from None


def encode_text(tokenizer: Any, text: str, prefix: Sequence[int] = ()) -> "array[int]":
    """The ids of a text after those that the tokenizer puts before any, four bytes each.

    A long text is taken piece by piece: tokenizing it whole holds some hundred bytes a token.
    """
    ids = array("i", prefix)
    for piece in _pieces(text) if _splits_at_seams(tokenizer) else [text]:
        ids.extend(tokenizer.encode(piece, add_special_tokens=False))
    return ids


def _pieces(text: str) -> Iterator[str]:
    """A text cut at seams, into pieces that are a little longer than _PIECE_CHARACTERS."""
    start = 0
    while start < len(text):
        seam = _SEAM.search(text, start + _PIECE_CHARACTERS)
        end = seam.start() if seam else len(text)
        yield text[start:end]
        start = end


def _splits_at_seams(tokenizer: Any) -> bool:
    """Whether it is known that pieces give the ids of the whole: GPT-2's splitting, and nothing that reaches across."""
    splitting, normalizer = tokenizer.backend_tokenizer.pre_tokenizer, tokenizer.backend_tokenizer.normalizer
    is_gpt2 = type(splitting).__name__ == "ByteLevel" and splitting.use_regex and not splitting.add_prefix_space
    added = tokenizer.added_tokens_decoder.values()
    return is_gpt2 and normalizer is None and not any(t.lstrip or t.rstrip or _SEAM.search(t.content) for t in added)
