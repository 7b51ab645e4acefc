"""From token ids to text that can be shown: whole characters, byte by byte, nothing dangerous.

A token of a byte-level tokenizer can be a fragment of a character. In a row of tokens the fragments of one
character join in the token that completes it; bytes that complete nothing show as `\\xE2`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any
from unicodedata import category

from wcwidth import wcwidth

from layer_decoding.terminal.theme import Terminal

# C0 and C1 controls, DEL, and the marks that reorder or hide text: zero-width spaces, bidi controls, separators, BOM.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class Pieces:
    """The text of each token of a row, for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids)
        self.added = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}
        self.byte_level = type(tokenizer.backend_tokenizer.decoder).__name__ == "ByteLevel"

    def of(self, ids: Iterable[int]) -> list[str]:
        """One piece a token, raw; "" for a token whose bytes a later one completes.

        >>> Pieces(gpt2_tokenizer).of([447, 247])     # two tokens, one character: E2 80, 99
        ['', '’']
        """
        return join_bytes([self._bytes(token) for token in ids])

    def text(self, ids: Iterable[int]) -> str:
        """The text of a row without its special tokens."""
        return "".join(self.of(token for token in ids if token not in self.special_ids))

    def _bytes(self, token: int) -> bytes:
        """The bytes that one token stands for."""
        if token in self.added:
            return str(self.added[token]).encode()
        symbol: str | None = self.tokenizer.convert_ids_to_tokens(token)
        if symbol is None:  # a row of the head that the tokenizer has no token for
            return f"<{token}>".encode()
        if self.byte_level:
            table = _byte_of_character()
            return b"".join(bytes([table[c]]) if c in table else c.encode() for c in symbol)
        byte = _BYTE_TOKEN.fullmatch(symbol)
        return bytes([int(byte[1], 16)]) if byte else symbol.replace("\u2581", " ").encode()


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's byte alphabet, read backwards: a printable byte is written as itself, the n-th other as chr(256 + n)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def join_bytes(tokens: Sequence[bytes]) -> list[str]:
    r"""Decode a row of byte strings as UTF-8, each character to the token that holds its last byte.

    >>> join_bytes([b"caf", b"\xc3", b"\xa9", b"\xe2"])
    ['caf', '', 'é', '\\xE2']
    """
    row = b"".join(tokens)
    owner = [index for index, token in enumerate(tokens) for _ in token]
    pieces = [""] * len(tokens)
    at = 0
    while at < len(row):
        character = _character_at(row, at)
        size = len(character.encode()) if character else 1
        pieces[owner[at + size - 1]] += character or f"\\x{row[at]:02X}"
        at += size
    return pieces


def _character_at(row: bytes, at: int) -> str:
    """The UTF-8 character that starts at a byte, "" where none does."""
    lead = row[at]
    size = 1 if lead < 0x80 else 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if lead < 0xF5 else 0
    try:
        return row[at : at + size].decode() if lead < 0x80 or lead >= 0xC2 else ""
    except UnicodeDecodeError:
        return ""


def escape(text: str, newline: str = "\\n") -> str:
    r"""Text with nothing in it that a terminal obeys: controls and reordering marks are spelt out.

    >>> escape("a\nb\x1b[31m\u202e")
    'a\\nb\\x1b[31m\\u202e'
    """
    return _HOSTILE.sub(lambda match: _spelt(match[0], newline), text)


def _spelt(character: str, newline: str) -> str:
    if character == "\n":
        return newline
    return repr(character)[1:-1] if not character.isprintable() else f"\\u{ord(character):04x}"


_JOINER = "\u200d"


def token_texts(ids: Iterable[int], pieces: Pieces, terminal: Terminal) -> list[str]:
    r"""Tokens as each looks in a cell of its own: a fragment of a character is its bytes, `\xE2`."""
    return [alone(visible(pieces.of([token])[0], terminal)) for token in ids]


def alone(text: str) -> str:
    r"""A token's text with what would join it to a neighbouring cell spelt out: accents and joiners at its edges.

    >>> alone("\u0301a\u200d")
    '\\u0301a\\u200d'
    """
    kept = text.rstrip(_JOINER)
    ending = text[len(kept) :]
    start = next((at for at, character in enumerate(kept) if wcwidth(character) > 0), len(kept))
    return _ascii(kept[:start]) + kept[start:] + _ascii(ending)


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def visible(text: str, terminal: Terminal) -> str:
    """A token as a terminal shows it: `shown`, and spaces as a mark too where there is nothing else."""
    if text.isspace():
        text = "".join(terminal.glyphs.space if category(c) == "Zs" else c for c in text)
    return shown(text, terminal)


def shown(text: str, terminal: Terminal) -> str:
    """Text as it will be written: nothing a terminal obeys, newlines as a mark, spelt out what its stream lacks.

    Whatever a model, a prompt or a tokenizer says comes to a view through here, so that it is measured as it stands.
    """
    written = escape(text, terminal.glyphs.newline).encode(terminal.encoding, "backslashreplace")
    return written.decode(terminal.encoding)
