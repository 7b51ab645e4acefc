"""From a text file to documents, all that the file says among them: some to train on, some held out to score on."""

import lzma
import random
from pathlib import Path

from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.vocabulary import END_OF_TEXT

HELD_OUT_SHARE = 50  # one document in fifty is never trained on
FEWEST_DOCUMENTS = 20  # fewer are cut into stretches, so that what is held out is no large part
STRETCH = 2000  # characters of a stretch, about; a twentieth of a text that is shorter than 20 of them,
SHORTEST_STRETCH = 100  # but no less than this
CUTS = ("\n\n", "\n", " ")  # where a stretch may end, best first


def read_documents(path: Path) -> tuple[list[str], list[str]]:
    """Training and held-out documents of a text file, shuffled the same way every time.

    Raises:
        LayerDecodingError: the file cannot be read, is not UTF-8 text, or is too short to hold any of it out.
    """
    documents = cut_if_few(documents_of(path))
    if len(documents) < 2:
        raise LayerDecodingError(
            f"{path} is too short: of its {sum(map(len, documents))} characters some are learnt and some are held out "
            "to score the model on; give more text."
        )
    random.Random(0).shuffle(documents)
    held_out = max(1, len(documents) // HELD_OUT_SHARE)
    return documents[held_out:], documents[:held_out]


def documents_of(path: Path) -> list[str]:
    r"""The documents of a UTF-8 text file (or .xz of one) in its order, without the blank space around each.

    Documents are separated by <|endoftext|>. The line ends \r\n and \r are read as \n.

    Raises:
        LayerDecodingError: the file cannot be read, or is not UTF-8 text.
    """
    return _stripped(read_text(path).split(END_OF_TEXT))


def cut_if_few(documents: list[str]) -> list[str]:
    """The documents; those of a text that has few, or one, cut into stretches, at blank lines where there are any."""
    if len(documents) >= FEWEST_DOCUMENTS:
        return documents
    length = min(STRETCH, max(SHORTEST_STRETCH, sum(map(len, documents)) // FEWEST_DOCUMENTS))
    return _stripped([stretch for document in documents for stretch in _stretches(document, length)])


def read_text(path: Path) -> str:
    """What a UTF-8 text file says, its line ends as \\n; raises LayerDecodingError if it is no such file."""
    raw = read_bytes(path)
    try:
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, lzma.LZMAError):
        raise LayerDecodingError(f"{path} is not UTF-8 text; convert it to UTF-8.") from None
    refuse_zero_bytes(text, str(path))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def refuse_zero_bytes(text: str, place: str) -> None:
    """Raise LayerDecodingError for a text with zero bytes: it was a binary file, or another encoding."""
    if zeros := text.count("\0"):
        raise LayerDecodingError(
            f"{place}, holds {zeros:,} zero bytes, which no text has; take them out, or convert it to UTF-8."
        )


def read_bytes(path: Path) -> bytes:
    """What a file holds; raises LayerDecodingError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LayerDecodingError(f"{path} cannot be read: {error.strerror}; give a text file.") from None


def _stripped(pieces: list[str]) -> list[str]:
    """Without the blank space around them, and without those that were nothing else."""
    return [piece.strip() for piece in pieces if piece.strip()]


def _stretches(text: str, length: int) -> list[str]:
    """A text cut into stretches of `length` characters or more; nothing is left out.

    A stretch ends at the first blank line after its length, or where that is further than twice the length,
    at the first line end, else at the first space, else right there.
    """
    stretches, start = [], 0
    while len(text) - start > length:
        ends = [text.find(cut, start + length, start + 2 * length) for cut in CUTS]
        end = next((end for end in ends if end >= 0), start + length)
        stretches.append(text[start:end])
        start = end
    return [*stretches, text[start:]]
