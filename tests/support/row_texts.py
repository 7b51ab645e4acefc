"""Tokens of every awkward kind, and how coloured lines are compared with plain ones."""

import re
import unicodedata
from dataclasses import replace

from wcwidth import wcswidth

import goldens
from layer_decoding.terminal.theme import COLOUR, PLAIN, Terminal

OUR_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
UNMARKED = replace(PLAIN, marks=("", ""))
TABLE = [
    t.encode("utf-8", "surrogateescape")
    for t in [
        *(" and", " the", " little", ",", "\n", " ", "  ", "I", "[", "]", "你好", " 世界", "<|endoftext|>", "-" * 40),
        *("\udce2", "\udc80", "\udc99", " \udcf0\udc9f", "\udc91\udca9", "\u200d", "👧", "❤", "\ufe0f", "e", "\u0301"),
        *("\x1b[31m", "\u202e", "\t", "\x00", "\xa0", "5", "\u20e3", "🇫", "🇷", ""),
    ]
]
PIECES = goldens.StoredPieces(TABLE)


def words(text):
    """A text without its spaces, which wrapping may move to the next line."""
    return text.replace(" ", "")


BRACKETED = replace(PLAIN, marks=("⟦", "⟧"))  # by marks from outside of every token's alphabet


def assert_colour_is_decoration(lines_of, width, glyphs):
    """Coloured lines hold the words of the plain ones without their marks, and a reset at their ends; all fit."""
    coloured, unmarked, marked = (lines_of(Terminal(theme, glyphs, width)) for theme in (COLOUR, UNMARKED, BRACKETED))
    bare = [OUR_ESCAPES.sub("", line) for line in coloured]
    assert bare == unmarked
    assert words("".join(bare)) == words("".join(marked).translate({ord(mark): "" for mark in "⟦⟧"}))
    for line in coloured:
        opened = OUR_ESCAPES.findall(line)
        assert opened == [] or opened[-1] == COLOUR.reset
        assert "\n" not in line
    for line in [*bare, *marked] if width else []:
        assert wcswidth(line) <= width


DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
DIRECTION_MARKS = "\u061c\u200e\u200f"


def obeyed(text):
    """The characters of a text that a terminal would act on rather than show."""
    return [
        character
        for character in text
        if unicodedata.category(character) in ("Cc", "Zl", "Zp")
        or unicodedata.bidirectional(character) in DIRECTIONS
        or character in DIRECTION_MARKS
    ]
