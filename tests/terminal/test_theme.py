"""What a stream can show: the colour decision's whole matrix, glyphs by encoding, widths."""

import io
import os
from itertools import product

import pytest
from colorama import Fore, Style

from contrasts import contrast
from layer_decoding.terminal import theme as terminal
from layer_decoding.terminal.spans import Span, paint
from layer_decoding.terminal.theme import (
    ASCII,
    COLOUR,
    COLOUR_ON_LIGHT,
    PLAIN,
    Glyphs,
    Theme,
    glyphs_of,
    is_light,
    terminal_of,
    theme_of,
    wants_colour,
)


class Stream(io.StringIO):
    """A stream that says whether it is a terminal, and of which encoding."""

    def __init__(self, is_terminal=True, encoding="utf-8"):
        super().__init__()
        self.is_terminal, self.said_encoding = is_terminal, encoding

    def isatty(self):
        return self.is_terminal

    @property
    def encoding(self):
        return self.said_encoding


@pytest.mark.parametrize(
    "choice, environ, is_terminal, colour",
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": "0"}, True, False),  # any value that is not empty
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": ""}, False, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ("auto", {"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"TERM": "xterm"}, False, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_by_hand(choice, environ, is_terminal, colour):
    assert wants_colour(Stream(is_terminal), choice, environ) is colour


VALUES = [None, "", "1"]


@pytest.mark.parametrize("choice", ["auto", "always", "never"])
def test_the_first_rule_that_speaks_decides(choice):
    for no_color, force_color, term, is_terminal in product(VALUES, VALUES, [None, "dumb", "xterm"], [True, False]):
        given = {"NO_COLOR": no_color, "FORCE_COLOR": force_color, "TERM": term}
        environ = {name: value for name, value in given.items() if value is not None}
        rules = [
            (choice == "always", True),
            (choice == "never", False),
            (no_color == "1", False),
            (force_color == "1", True),
            (term == "dumb", False),
            (True, is_terminal),
        ]
        expected = next(answer for applies, answer in rules if applies)
        assert wants_colour(Stream(is_terminal), choice, environ) is expected, (environ, is_terminal)


def test_each_stream_is_asked_for_itself(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    assert terminal_of(Stream(True)).theme is COLOUR
    assert terminal_of(Stream(False)).theme is PLAIN


@pytest.mark.parametrize(
    "encoding, glyphs",
    [
        ("utf-8", Glyphs()),
        ("UTF-8-SIG", Glyphs()),
        ("utf-16", Glyphs()),
        ("ascii", ASCII),
        ("cp1252", ASCII),
        ("latin-1", ASCII),
        ("cp437", ASCII),
        ("no such encoding", ASCII),
        (None, ASCII),
    ],
)
def test_glyphs_by_encoding(encoding, glyphs):
    assert glyphs_of(Stream(encoding=encoding)) == glyphs


def test_the_ascii_twins_are_ascii():
    assert all(glyph.isascii() for glyph in vars(ASCII).values())
    assert vars(ASCII).keys() == vars(Glyphs()).keys()


def test_width(monkeypatch):
    monkeypatch.setattr(terminal, "screen_size", lambda _: os.terminal_size((132, 30)))
    assert terminal_of(Stream(True)).width == 132
    assert terminal_of(Stream(True), width=40).width == 40
    assert terminal_of(Stream(False)).width is None
    assert terminal_of(Stream(False), width=40).width == 40
    monkeypatch.setattr(terminal, "screen_size", lambda _: os.terminal_size((5, 30)))
    assert terminal_of(Stream(True)).width == terminal.MINIMUM_WIDTH


ROLES = ["plain", "agrees", "differs", "heading", "note"]


@pytest.mark.parametrize("role", ROLES)
def test_painting(role):
    assert PLAIN.paint("so", role) == PLAIN.paint("so", role, piece=True) == "so"
    assert paint([Span("so", role)], PLAIN) == ("[so]" if role == "differs" else "so")
    coloured = COLOUR.paint("so", role)
    assert coloured == ("so" if role == "plain" else f"{getattr(COLOUR, role)}so\x1b[0m")
    assert Theme.paint(COLOUR, "", role) == PLAIN.paint("", role) == ""


def test_colours_are_the_themes_own():
    """Of the 16 colours and attributes that every terminal theme defines; never a background."""
    for role in ROLES[1:]:
        number = int(getattr(COLOUR, role).removeprefix("\x1b[").removesuffix("m"))
        assert number in {1, 2, *range(30, 38), *range(90, 98)}


# ---------------------------------------------------------------- for whom red is no colour

# (red, bright red, a dark background, a light one) of the terminals that most people have, as they come.
PALETTES = {
    "xterm": ("cd0000", "ff0000", "000000", "ffffff"),
    "VS Code, dark": ("cd3131", "f14c4c", "1e1e1e", None),
    "VS Code, light": ("cd3131", "cd3131", None, "ffffff"),
    "GNOME Terminal": ("c01c28", "f66151", "1e1e1e", "ffffff"),
    "Terminal.app": ("c23621", "fc391f", "000000", "ffffff"),
    "Windows Terminal": ("c50f1f", "e74856", "0c0c0c", None),
}


def test_contrast_by_hand():
    assert contrast("000000", "ffffff") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("name", PALETTES)
def test_red_can_be_read(name):
    """At least 4.5 : 1, on dark and, where the terminal says that it is light, on light."""
    red, bright, dark, light = PALETTES[name]
    shown = {Fore.RED: red, Fore.LIGHTRED_EX: bright}
    assert dark is None or contrast(shown[theme_of(Stream(), "always", {}).differs], dark) >= 4.5
    told = {"COLORFGBG": "0;15"}
    assert light is None or contrast(shown[theme_of(Stream(), "always", told).differs], light) >= 4.5


@pytest.mark.parametrize("theme", [COLOUR, COLOUR_ON_LIGHT])
def test_what_differs_is_told_by_weight_too(theme):
    assert theme.agrees == Style.BRIGHT
    assert Style.BRIGHT not in theme.differs


@pytest.mark.parametrize(
    "said, light",
    [("0;15", True), ("0;default;7", True), ("15;0", False), ("15;8", False), ("", False), ("x;²", False), ("7", True)],
)
def test_a_background_as_the_terminal_says_it(said, light):
    assert is_light({"COLORFGBG": said}) is light
    assert (theme_of(Stream(), "always", {"COLORFGBG": said}) is COLOUR_ON_LIGHT) is light
    assert theme_of(Stream(), "never", {"COLORFGBG": said}) is PLAIN
