"""From token ids to text that can be shown: what the tokenizer's `decode` gives, a piece a token, nothing dangerous.

A token can be a fragment of a character, or of a word that is written otherwise when it is whole. In a row of tokens
the text goes to the token that completes it; bytes that complete nothing show as `\\xE2`.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Any
from unicodedata import category

from wcwidth import wcwidth

from layer_decoding.terminal.alignment import common_prefix
from layer_decoding.terminal.theme import Terminal

# C0 and C1 controls, DEL, and the marks that reorder or hide text: zero-width spaces, bidi controls, separators, BOM.
_HOSTILE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_BLANK = "\u2581"  # how SentencePiece writes a space


class Pieces:
    """The text of each token of a row, for one tokenizer of any kind."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self.special_ids = frozenset(tokenizer.all_special_ids) | {token for token, word in added if word.special}
        self.byte_level = _is_byte_level(tokenizer)
        self._prefix = lru_cache(maxsize=2**12)(self._decode)  # rows grow token by token while they are watched
        self._byte = lru_cache(maxsize=2**12)(self._byte_of)

    def of(self, ids: Iterable[int]) -> list[str]:
        """One piece a token, raw, joined what `decode` gives; "" for a token whose text comes with a later one.

        >>> Pieces(gpt2_tokenizer).of([447, 247])     # two tokens, one character: E2 80, 99
        ['', '’']
        """
        row = list(ids)
        if self.byte_level:
            return join_bytes([self._bytes(token) for token in row])
        symbols = self.tokenizer.convert_ids_to_tokens(row)
        known = iter(self._decoded([token for token, symbol in zip(row, symbols, strict=True) if symbol is not None]))
        return [_number(token) if symbol is None else next(known) for token, symbol in zip(row, symbols, strict=True)]

    def text(self, ids: Iterable[int]) -> str:
        """The text of a row without its special tokens."""
        return "".join(self.of(token for token in ids if token not in self.special_ids))

    def inside(self, token: int) -> str:
        """A token as it stands inside a text: with the blanks that some decoders drop where a text begins."""
        text = self.of([token])[0]
        symbol = self.tokenizer.convert_ids_to_tokens(token) or ""
        blanks = len(symbol) - len(symbol.lstrip(_BLANK))
        if self.byte_level or not blanks or text.startswith(_BLANK):
            return text
        return " " * blanks + text.lstrip(" ")

    def _bytes(self, token: int) -> bytes:
        """The bytes that a token of a byte-level tokenizer stands for: those of its alphabet, or its own."""
        symbol: str | None = self.tokenizer.convert_ids_to_tokens(token)
        if symbol is None:
            return _number(token).encode()
        table = _byte_of_character()
        return bytes(table[c] for c in symbol) if all(c in table for c in symbol) else symbol.encode()

    def _decoded(self, ids: Sequence[int]) -> list[str]:
        """The pieces of a row as a decoder makes them that no table tells of: what each token leaves settled.

        A text goes to the first token from which on decoding gives it: `hel@@` of `hel@@ lo` is only `hel`.
        """
        whole, ends = self._decode(tuple(ids)), [0]
        for count in range(1, len(ids)):
            ends.append(max(ends[-1], common_prefix(self._prefix(tuple(ids[:count])), whole)))
        pieces = [whole[start:end] for start, end in pairwise([*ends, len(whole)])] if ids else []
        for is_byte, group in groupby(range(len(ids)), key=lambda at: self._byte(ids[at]) is not None):
            places = list(group)
            run = [self._byte(ids[at]) or b"" for at in places]
            if is_byte and not _is_text(b"".join(run)):  # of which decoding makes as many question marks
                pieces[places[0] : places[-1] + 1] = join_bytes(run)
        return pieces

    def _decode(self, ids: tuple[int, ...]) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def _byte_of(self, token: int) -> bytes | None:
        """The byte that a token of SentencePiece stands for, if it is none of its texts."""
        symbol = self.tokenizer.convert_ids_to_tokens(token)
        byte = _BYTE_TOKEN.fullmatch(symbol)
        return bytes([int(byte[1], 16)]) if byte and self._decode((token,)) != symbol else None


def _is_byte_level(tokenizer: Any) -> bool:
    """Whether decoding is reading GPT-2's byte alphabet and nothing else."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)  # a tokenizer in Python has none
    return decoder is not None and decoder.decode(["ĠaĠ", "Ã", "©Ġ"]) == " a é "


def _number(token: int) -> str:
    """What stands for a row of the head that the tokenizer has no token for."""
    return f"<{token}>"


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


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
    return [alone(visible(pieces.inside(token), terminal)) for token in ids]


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
