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
from layer_decoding.terminal.hidden import escape
from layer_decoding.terminal.theme import Terminal
from layer_decoding.terminal.utf8 import byte_of_character, is_text, join_bytes

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
        table = byte_of_character()
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
            if is_byte and not is_text(b"".join(run)):  # of which decoding makes as many question marks
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


def token_texts(ids: Iterable[int], pieces: Pieces, terminal: Terminal) -> list[str]:
    r"""Tokens as each looks in a cell of its own: a fragment of a character is its bytes, `\xE2`."""
    return [alone(visible(pieces.inside(token), terminal)) for token in ids]


def alone(text: str) -> str:
    r"""A token's text with what would join it to the cell before it spelt out: accents at its beginning.

    >>> alone("\u0301a")
    '\\u0301a'
    """
    start = next((at for at, character in enumerate(text) if wcwidth(character) > 0), len(text))
    return text[:start].encode("ascii", "backslashreplace").decode() + text[start:]


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
