"""Keys by Textual's names, and all of them said."""

import re

import pytest

from layer_decoding.errors import UsageError
from layer_decoding.exploring.keys import COMMANDS, MEANINGS, key_of, read_script

textual_keys = pytest.importorskip("textual.keys")


@pytest.mark.parametrize("character", [chr(code) for code in range(0x20, 0x7F)] + ["é", "ß", "日", "…", "—"])
def test_a_key_has_textuals_name(character):
    assert key_of(textual_keys._character_to_key(character)) == key_of(character)
    assert key_of(character) == ("space" if character == " " else character)


@pytest.mark.parametrize("name", ["up", "home", "pageup", "enter", "backspace", "escape", "space"])
def test_keys_without_a_character_have_their_names(name):
    assert key_of(name) == name
    assert (
        getattr(textual_keys.Keys, {"pageup": "PageUp", "pagedown": "PageDown"}.get(name, name.title()), name) == name
    )


@pytest.mark.parametrize("name", ["spce", "ctrl+c", "tab", "\x1b", "", "f1"])
def test_anything_else_is_no_key(name):
    assert key_of(name) is None


def test_a_script():
    assert read_script(" t space\nleft_square_bracket [ enter ") == ["t", "space", "[", "[", "enter"]
    with pytest.raises(UsageError, match="'spce' in the script is no key"):
        read_script("space spce")


def test_every_command_is_told():
    told = {word for keys, _ in MEANINGS for word in re.split(r"[, ]+", keys)}
    told |= {"left", "right", "up", "down"} if "arrows" in told else set()
    assert told - {"arrows", "hjkl", "1-9", ""} | {*"hjkl", *"123456789"} == COMMANDS
