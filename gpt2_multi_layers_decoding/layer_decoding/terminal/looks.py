"""Painted lines read back: the signs that a terminal shows for them, and how each looks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wcwidth import iter_graphemes, width

_ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
_ATTRIBUTES = {1: "bold", 2: "faint", 4: "underlined", 7: "reversed"}
_EIGHT_COLOURS = ((30, 40, 0), (90, 100, 8))  # from where on letters, backgrounds; which colour is the first


@dataclass(frozen=True)
class Look:
    """How a sign is written; a colour is one of xterm's 256, None the terminal's own."""

    bold: bool = False
    faint: bool = False
    underlined: bool = False
    reversed: bool = False
    colour: int | None = None
    background: int | None = None


@dataclass(frozen=True)
class Sign:
    """What stands in a cell, or in two: a letter with its accents, an emoji."""

    text: str
    cells: int
    look: Look


def read_painted(line: str) -> list[Sign]:
    r"""The signs of a line in the escapes that themes paint with.

    >>> [(sign.text, sign.look.bold) for sign in read_painted("\x1b[1ma\x1b[0m你")]
    [('a', True), ('你', False)]
    """
    text, looks, look = "", [], Look()
    for at, part in enumerate(_ESCAPE.split(line)):
        if at % 2:
            look = _after(look, part)
        else:
            text += part
            looks += [look] * len(part)
    signs, at = [], 0
    for sign in iter_graphemes(text):  # an accent that is painted otherwise than its letter still stands over it
        if cells := width(sign):
            signs.append(Sign(_no_gap(sign), cells, looks[at]))
        at += len(sign)
    return signs


def _no_gap(text: str) -> str:
    """A sign as it is, but for a blank that bears an accent: Unicode has one for that, at which nothing breaks."""
    return text if text == " " else text.replace(" ", "\xa0")


def _after(look: Look, codes: str) -> Look:
    """A look after an escape: its numbers, joined by semicolons."""
    numbers = iter([int(code or 0) for code in codes.split(";")])
    for number in numbers:
        look = _changed(look, number, numbers)
    return look


def _changed(look: Look, number: int, others: Iterator[int]) -> Look:
    """A look after one number of an escape; a colour out of 256 is two more: 5, and which."""
    if number == 0:
        return Look()
    if number in _ATTRIBUTES:
        return replace(look, **{_ATTRIBUTES[number]: True})
    if number in (38, 48):
        _, colour = next(others), next(others)
        return replace(look, colour=colour) if number == 38 else replace(look, background=colour)
    for letters, backgrounds, first in _EIGHT_COLOURS:
        if letters <= number < letters + 8:
            return replace(look, colour=first + number - letters)
        if backgrounds <= number < backgrounds + 8:
            return replace(look, background=first + number - backgrounds)
    return look
