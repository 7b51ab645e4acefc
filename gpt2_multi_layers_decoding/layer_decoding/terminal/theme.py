"""What the reader's terminal can show: colour or marks, which characters, how wide.

One place decides each. Roles, not hues: rendering asks the theme to paint text as `differs`, and never
asks whether there is colour.
"""

import codecs
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TextIO

from colorama import Back, Fore, Style

Chance = Literal["slight", "fair", "likely", "sure"]  # a probability or another measure, in steps; the lowest is plain
Role = Literal["plain", "agrees", "differs", "heading", "note", "chosen", "cursor"] | Chance
MINIMUM_WIDTH = 20  # a label and a few cells of text; a narrower screen wraps by itself


@dataclass(frozen=True)
class Theme:
    """How each role looks: an escape sequence before it, and marks around what differs.

    A role that only shades (a `Chance`) has its mark from the glyphs, through `stand_in`; `chosen` and `cursor` are
    never said by their looks alone.
    """

    heading: str = ""
    agrees: str = ""
    differs: str = ""
    piece: str = ""  # every other piece of a word of several tokens, beside its role
    note: str = ""
    chosen: str = ""
    cursor: str = ""
    slight: str = ""
    fair: str = ""
    likely: str = ""
    sure: str = ""
    reset: str = ""
    marks: tuple[str, str] = ("[", "]")

    def paint(self, text: str, role: Role, *, piece: bool = False) -> str:
        """Text as its role looks, reset at its end. Pads, newlines and marks are the caller's, outside."""
        escapes = ("" if role == "plain" else getattr(self, role)) + (self.piece if piece else "")
        return f"{escapes}{text}{self.reset}" if text and escapes else text

    @property
    def mark_cells(self) -> int:
        """The cells that the marks around a stretch take: none where colour stands for them."""
        return sum(map(len, self.marks))

    def stand_in(self, glyph: str) -> str:
        """A glyph that says without colour what a colour says: blank, and as wide, where there is colour."""
        return glyph if any(self.marks) else " " * len(glyph)


_REVERSED = "\x1b[7m"
PLAIN = Theme()
COLOUR = Theme(
    heading=Style.BRIGHT,
    agrees=Style.BRIGHT,  # weight, for whom red is no colour: what agrees stands out of what does not
    differs=Fore.LIGHTRED_EX,  # on dark; plain red has a contrast of 3 : 1 there
    piece="\x1b[4m",  # underlined
    note=Style.DIM,
    chosen=Style.BRIGHT + Fore.GREEN,
    slight=Back.LIGHTWHITE_EX + Fore.BLACK,  # from light to dark in every palette
    fair=Back.LIGHTCYAN_EX + Fore.BLACK,
    likely=Back.CYAN + Fore.BLACK,
    sure=Back.BLUE + Fore.LIGHTWHITE_EX,
    cursor=_REVERSED,
    reset=Style.RESET_ALL,
    marks=("", ""),
)
MONOCHROME = Theme(cursor=_REVERSED, reset=Style.RESET_ALL)  # for a screen that moves, which is a terminal in any case
COLOUR_ON_LIGHT = replace(COLOUR, differs=Fore.RED)  # bright red has a contrast of 3 to 4 : 1 on white


@dataclass(frozen=True)
class Glyphs:
    """The characters of our own that are not ASCII, each with a twin that is."""

    newline: str = "↵"
    space: str = "·"
    leaves: str = "│"
    times: str = "×"
    dots: str = "…"
    chances: str = "▂▄▆█"  # what stands in for each shade
    bars: str = "▁▂▃▄▅▆▇█"  # of a sparkline
    blocks: str = "▏▎▍▌▋▊▉█"  # a cell of a bar, filled by so many parts
    rule: str = "─"
    beams: str = "●○"  # on the way to the best text, and off it
    lines: str = "│├┤┼╮╭┬─ "  # by the directions in which they leave their cell, in the order of LINES


ASCII = Glyphs(
    newline="\\n",
    space="_",
    leaves="|",
    times="x",
    dots="...",
    chances=".:+#",
    bars="_.:-=+*#",
    blocks="#",
    rule="-",
    beams="*o",
    lines="|++++++- ",
)
LINES = ("ud", "udr", "udl", "udlr", "dl", "dr", "dlr", "lr", "")  # up, down, left, right
CHOSEN = "*"  # after a token: the one that the last layer, or the text, has too


@dataclass(frozen=True)
class Terminal:
    """One output stream's answers: theme, glyphs, width in cells (None: do not wrap), encoding."""

    theme: Theme = PLAIN
    glyphs: Glyphs = Glyphs()
    width: int | None = None
    encoding: str = "utf-8"


def terminal_of(stream: TextIO, colour: str = "auto", width: int | None = None) -> Terminal:
    """What a stream can show; `width` as the reader asked for it, else the terminal's, else no wrapping."""
    if width is None and stream.isatty():
        width = max(MINIMUM_WIDTH, screen_size(stream).columns)
    return Terminal(theme_of(stream, colour), glyphs_of(stream), width, encoding_of(stream))


def theme_of(stream: TextIO, colour: str = "auto", environ: Mapping[str, str] = os.environ) -> Theme:
    """Plain, or in colour for a background that is light where the terminal says so, else dark."""
    if not wants_colour(stream, colour, environ):
        return PLAIN
    theme = COLOUR_ON_LIGHT if is_light(environ) else COLOUR
    return in_blues(theme) if has_256_colours(environ) else theme


def in_blues(theme: Theme) -> Theme:
    """A theme whose shades are of one hue, from light to dark: of the 256 colours of xterm, that no palette changes."""
    black, white = "\x1b[38;5;16m", "\x1b[38;5;231m"
    back = "\x1b[48;5;{}m".format
    return replace(
        theme, slight=back(153) + black, fair=back(75) + black, likely=back(32) + black, sure=back(25) + white
    )


def has_256_colours(environ: Mapping[str, str]) -> bool:
    """Whether COLORTERM or TERM promise at least the 256 colours of xterm."""
    term = environ.get("TERM", "")
    return environ.get("COLORTERM") in ("truecolor", "24bit") or "256color" in term or "direct" in term


def is_light(environ: Mapping[str, str]) -> bool:
    """Whether COLORFGBG, such as 0;15, names a light background: white, or a bright colour but bright black."""
    background = environ.get("COLORFGBG", "").rpartition(";")[2]
    return background.isdecimal() and (int(background) == 7 or 9 <= int(background) <= 15)


def full_screen_of(stream: TextIO, colour: str = "auto") -> Terminal:
    """What a stream can show that a program has to itself; the width changes as the reader likes."""
    theme = theme_of(stream, colour)
    return Terminal(MONOCHROME if theme is PLAIN else theme, glyphs_of(stream), None, encoding_of(stream))


def screen_size(stream: TextIO) -> os.terminal_size:
    """The size of the screen that a stream writes to, as it is now; COLUMNS and LINES only where it has none."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no file behind it, or no terminal
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def redraws(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what a stream has shown can be drawn over: a terminal that moves its cursor."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def rewraps(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal that is made narrower wraps the lines on it anew: all but xterm itself and a few old ones."""
    return "XTERM_VERSION" not in environ and not environ.get("TERM", "").startswith(("linux", "rxvt", "screen"))


def wants_colour(stream: TextIO, choice: str = "auto", environ: Mapping[str, str] = os.environ) -> bool:
    """--color=always|never, then NO_COLOR, then FORCE_COLOR (both non-empty), then TERM=dumb, then isatty()."""
    if choice != "auto":
        return choice == "always"
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return environ.get("TERM") != "dumb" and stream.isatty()


def encoding_of(stream: TextIO) -> str:
    """The encoding of a stream; where that is not known, the one that all others agree with."""
    try:
        return codecs.lookup(stream.encoding or "ascii").name
    except LookupError:
        return "ascii"


def glyphs_of(stream: TextIO) -> Glyphs:
    """The glyphs that a stream's encoding can write."""
    glyphs = Glyphs()
    try:
        "".join(vars(glyphs).values()).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return glyphs
