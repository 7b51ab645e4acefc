"""Bytes of a row of tokens as characters: each to the token that holds its last byte, the others spelt out."""

from collections.abc import Sequence
from functools import lru_cache


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
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


def is_text(raw: bytes) -> bool:
    """Whether bytes are whole characters in UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
