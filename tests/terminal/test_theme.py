"""What a stream can show: the colour decision's whole matrix, glyphs by encoding, widths."""

import io
from itertools import product

import pytest

from layer_decoding.terminal import theme as terminal
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Glyphs, Theme, glyphs_of, terminal_of, wants_colour


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
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
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
    monkeypatch.setattr(terminal, "screen_columns", lambda: 132)
    assert terminal_of(Stream(True)).width == 132
    assert terminal_of(Stream(True), width=40).width == 40
    assert terminal_of(Stream(False)).width is None
    assert terminal_of(Stream(False), width=40).width == 40
    monkeypatch.setattr(terminal, "screen_columns", lambda: 5)
    assert terminal_of(Stream(True)).width == terminal.MINIMUM_WIDTH


ROLES = ["plain", "differs", "heading", "note"]


@pytest.mark.parametrize("role", ROLES)
def test_painting(role):
    assert PLAIN.paint("so", role) == ("[so]" if role == "differs" else "so")
    coloured = COLOUR.paint("so", role)
    assert coloured == ("so" if role == "plain" else f"{getattr(COLOUR, role)}so\x1b[0m")
    assert Theme.paint(COLOUR, "", role) == PLAIN.paint("", role) == ""


def test_colours_are_the_themes_own():
    """Of the 16 colours and attributes that every terminal theme defines; never a background."""
    for role in ROLES[1:]:
        number = int(getattr(COLOUR, role).removeprefix("\x1b[").removesuffix("m"))
        assert number in {1, 2, *range(30, 38), *range(90, 98)}
