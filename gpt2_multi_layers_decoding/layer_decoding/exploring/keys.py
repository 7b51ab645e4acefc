"""The keys: what each does, said once, and their names as Textual has them."""

import unicodedata

from layer_decoding.errors import UsageError

MEANINGS = (
    ("arrows, hjkl", "move to a layer or a step"),
    ("home, end", "to the first step, to the one not written yet"),
    ("pageup, pagedown", "eight layers up or down"),
    ("space", "the model writes the next token"),
    ("enter", "take the token under the cursor, whichever layer's"),
    ("1-9", "take that candidate of the cell"),
    ("t", "type what comes in the cursor's place"),
    ("g", "write to the end of the line asked for"),
    ("backspace", "take the last token back"),
    ("[, ]", "the branch before, the branch after"),
    ("b", "this branch beside the one it left"),
    ("x", "drop this branch"),
    ("m", "another measure in the cells"),
    ("n", "another lens"),
    ("o", "what the model cut off at this layer would write from here"),
    ("/", "another prompt"),
    ("s", "save as .html, .csv or .json"),
    ("c", "copy the command that prints this"),
    ("escape", "stop what runs; close what is open"),
    ("?", "these keys"),
    ("q", "leave"),
)
MOVES = {
    "h": "left",
    "j": "down",
    "k": "up",
    "l": "right",
    **{name: name for name in ("left", "down", "up", "right", "home", "end", "pageup", "pagedown")},
}
NAMED = {*MOVES.values(), "space", "enter", "backspace", "escape"}
COMMANDS = {*MOVES, *NAMED, *"123456789tg[]bxmno/sc?q"}
# Where Textual's name of a character is not Unicode's with its blanks and hyphens as underscores.
_OWN_NAMES = {
    "slash": "/",
    "backslash": "\\",
    "at": "@",
    "minus": "-",
    "plus": "+",
    "underscore": "_",
    "less_than_sign": "<",
    "greater_than_sign": ">",
}


def key_of(name: str) -> str | None:
    """A key by Textual's name of it, or by the character itself; None where there is no such key.

    >>> key_of("pageup"), key_of("question_mark"), key_of("left_square_bracket"), key_of("t"), key_of("spce")
    ('pageup', '?', '[', 't', None)
    """
    if name in NAMED:
        return name
    if name == " ":
        return "space"
    if len(name) == 1:
        return name if name.isprintable() else None
    if name in _OWN_NAMES:
        return _OWN_NAMES[name]
    try:
        character = unicodedata.lookup(name.replace("_", " "))
    except KeyError:
        return None
    return character if character.isprintable() else None


def character_of(key: str) -> str | None:
    """What a key adds to a line that is typed."""
    return " " if key == "space" else key if len(key) == 1 else None


def keys_of(text: str) -> list[str]:
    """The keys that type a text."""
    return ["space" if character == " " else character for character in text]


def read_script(script: str) -> list[str]:
    """Keys with blanks between them.

    >>> read_script("space space up enter")
    ['space', 'space', 'up', 'enter']

    Raises:
        UsageError: one of them is no key.
    """
    keys = []
    for word in script.split():
        key = key_of(word)
        if key is None:
            raise UsageError(
                f"'{word}' in the script is no key; write keys with blanks between them, such as: space up enter 2 t"
                " space t h e enter.",
                settings=["script"],
            )
        keys.append(key)
    return keys
