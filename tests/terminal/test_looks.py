"""Painted lines read back: every escape that a theme paints with, and which signs share a cell."""

from dataclasses import fields

import pytest
from colorama import Back, Fore

from layer_decoding.terminal.looks import Look, Sign, read_painted
from layer_decoding.terminal.theme import COLOUR, COLOUR_ON_LIGHT, MONOCHROME, in_blues

THEMES = [COLOUR, COLOUR_ON_LIGHT, MONOCHROME, in_blues(COLOUR)]


@pytest.mark.parametrize("theme", THEMES)
def test_what_a_theme_paints_has_a_look_of_its_own(theme):
    roles = [field.name for field in fields(theme) if field.name not in ("reset", "marks", "piece")]
    for role in roles:
        painted = read_painted(f"a{theme.paint('b', role)}c")
        assert [(sign.text, sign.cells) for sign in painted] == [("a", 1), ("b", 1), ("c", 1)]
        assert painted[0].look == painted[2].look == Look()
        assert (painted[1].look == Look()) == (not getattr(theme, role))
    looks = {read_painted(theme.paint("b", role))[0].look for role in roles}
    assert len(looks) == len({getattr(theme, role) for role in roles})


@pytest.mark.parametrize(
    "escapes, look",
    [
        ("\x1b[1m\x1b[32m", Look(bold=True, colour=2)),
        ("\x1b[1;4;31m", Look(bold=True, underlined=True, colour=1)),
        (Fore.LIGHTRED_EX, Look(colour=9)),
        (Back.LIGHTCYAN_EX + Fore.BLACK, Look(colour=0, background=14)),
        (Back.BLUE, Look(background=4)),
        ("\x1b[48;5;153m\x1b[38;5;16m", Look(colour=16, background=153)),
        ("\x1b[2m\x1b[7m", Look(faint=True, reversed=True)),
        ("\x1b[1m\x1b[m", Look()),
        ("\x1b[3m", Look()),  # none of ours
    ],
)
def test_escapes_by_hand(escapes, look):
    assert read_painted(f"{escapes}a") == [Sign("a", 1, look)]


def test_signs_by_hand():
    red = Look(colour=9)
    assert read_painted(f"e\u0301你{Fore.LIGHTRED_EX}👩\u200d👧a\x1b[0m\u0301") == [
        *(Sign("e\u0301", 1, Look()), Sign("你", 2, Look())),
        *(Sign("👩\u200d👧", 2, red), Sign("a\u0301", 1, red)),  # an accent stands over the letter before it
    ]
    assert read_painted(" \u0301") == [Sign("\xa0\u0301", 1, Look())]
    assert read_painted("") == []
