"""Characters that a terminal obeys or that show nothing: a text can hide in them, so they are spelt out."""

import re
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import category

from wcwidth import iter_graphemes, wcwidth

# Marks and letters that are drawn as nothing (Unicode's Default_Ignorable_Code_Point), and the empty Braille pattern.
_SHOW_NOTHING = re.compile(
    "[\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_JOINER, _SELECTORS = "\u200d", "\ufe0e\ufe0f"  # what makes one emoji of several; as text, as a picture
_KEYCAP = "\u20e3"
_PICTURED = "‼⁉〰〽ℹ"  # emoji that are no symbols to Unicode


def escape(text: str, newline: str = "\\n") -> str:
    r"""Text with nothing in it that a terminal obeys or does not show; what makes up an emoji stays.

    >>> escape("a\nb\x1b[31m\u202e")
    'a\\nb\\x1b[31m\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    kept = _parts_of_emoji(text)
    return "".join(c if at in kept or not _is_hidden(c) else _spelt(c, newline) for at, c in enumerate(text))


def whole_emoji(texts: Sequence[str]) -> list[str]:
    """A row of texts in which an emoji of several characters stands whole, with the text that completes it."""
    row = "".join(texts)
    if not _parts_of_emoji(row):
        return list(texts)
    owner = [index for index, text in enumerate(texts) for _ in text]
    whole, at = [""] * len(texts), 0
    for letter in iter_graphemes(row):
        for part in [letter] if _parts_of_emoji(letter) else letter:
            at += len(part)
            whole[owner[at - 1]] += part
    return whole


def _parts_of_emoji(text: str) -> set[int]:
    """Where the characters stand that show nothing by themselves but are part of an emoji."""
    if not any(part in text for part in (_JOINER, *_SELECTORS)):
        return set()
    kept, start = set(), 0
    for letter in iter_graphemes(text):
        for at in range(1, len(letter)):
            before, after = letter[at - 1], letter[at + 1 : at + 2]
            joins = letter[at] == _JOINER and _is_symbol(after)
            if joins or (letter[at] in _SELECTORS and (_is_symbol(before) or after == _KEYCAP)):
                kept.add(start + at)
        start += len(letter)
    return kept


def _is_symbol(character: str) -> bool:
    """Whether a character can be a picture, or part of one."""
    return not character.isascii() and (category(character) in ("So", "Sm", "Sk") or character in _PICTURED)


@lru_cache(maxsize=2**12)
def _is_hidden(character: str) -> bool:
    """Whether a character is obeyed or shows nothing; unassigned ones could come to do either."""
    kind = category(character)
    if kind == "Cf":  # some are drawn: the signs that stand under Arabic numbers
        return wcwidth(character) <= 0 or _SHOW_NOTHING.match(character) is not None
    return kind in ("Cc", "Cn", "Cs", "Zl", "Zp") or _SHOW_NOTHING.match(character) is not None


def _spelt(character: str, newline: str) -> str:
    if character == "\n":
        return newline
    return repr(character)[1:-1] if character.isascii() else character.encode("ascii", "backslashreplace").decode()
