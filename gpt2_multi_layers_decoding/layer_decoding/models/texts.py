"""A whole text as token ids, piece by piece: neither the text nor its ids need to fit in memory."""

import mmap
import re
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from layer_decoding.errors import LayerDecodingError

Ids = Sequence[int]
_PIECE_CHARACTERS = 2**16
_HELD_IDS = 2**24  # 64 MB; a text of more is kept in a file
# Before the space of a word, or at the beginning of a line that has text on both sides of the newline: GPT-2's
# rule for splitting a text into words puts a boundary there whatever else stands around it.
_SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")
_LONGEST_SEAM = 3  # characters that decide about one


def encode_text(tokenizer: Any, text: Iterable[str], prefix: Sequence[int] = ()) -> Ids:
    """The ids of a text, given in parts, after those that the tokenizer puts before any; four bytes each.

    Those of a very long text lie in an unnamed file. Where it is not known that a tokenizer may be given a text piece
    by piece, it is given all of it.

    Raises:
        LayerDecodingError: no room for that file.
    """
    pieces = _pieces(text) if _splits_at_seams(tokenizer) else ["".join(text)]
    encoded = (tokenizer.encode(piece, add_special_tokens=False) for piece in pieces)
    return _stored(prefix, encoded)


def _stored(prefix: Sequence[int], encoded: Iterable[list[int]]) -> Ids:
    """Ids one after another, in memory or in an unnamed file."""
    held, file = array("i", prefix), None
    try:
        for ids in encoded:
            held.extend(ids)
            if len(held) >= _HELD_IDS:
                file = file or tempfile.TemporaryFile()  # noqa: SIM115 - gone with the last view of it
                held.tofile(file)
                held = array("i")
        if file is None:
            return held
        held.tofile(file)
        file.flush()
    except OSError as error:
        raise LayerDecodingError(
            f"The text's token ids do not fit in {tempfile.gettempdir()} ({error.strerror or error}); set TMPDIR to a"
            " folder with more room."
        ) from None
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).cast("i")


def _pieces(text: Iterable[str]) -> Iterator[str]:
    """A text cut at seams, into pieces that are a little longer than _PIECE_CHARACTERS, however it is given."""
    held, looked = "", 0
    for part in text:
        held += part
        while seam := _SEAM.search(held, max(looked, _PIECE_CHARACTERS)):
            yield held[: seam.start()]
            held, looked = held[seam.start() :], 0
        looked = len(held) - _LONGEST_SEAM  # of a text without seams nothing is looked through twice
    yield held


def _splits_at_seams(tokenizer: Any) -> bool:
    """Whether it is known that pieces give the ids of the whole: GPT-2's splitting, and nothing that reaches across."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python
        return False
    splitting, normalizer = backend.pre_tokenizer, backend.normalizer
    is_gpt2 = type(splitting).__name__ == "ByteLevel" and splitting.use_regex and not splitting.add_prefix_space
    added = tokenizer.added_tokens_decoder.values()
    return is_gpt2 and normalizer is None and not any(t.lstrip or t.rstrip or _SEAM.search(t.content) for t in added)
