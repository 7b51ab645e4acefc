"""What a reader hands over: a prompt or a text, as an argument, from stdin or from a file."""

import os
import stat
import sys
from pathlib import Path

from layer_decoding.errors import LayerDecodingError, UsageError

DEFAULT_PROMPT = "A long long time ago,"


def read_prompt(argument: str | None) -> str:
    """The prompt: the argument, or stdin for '-' or when it is a pipe or a file, or the default.

    One trailing newline of stdin is dropped.

    Raises:
        UsageError: an empty prompt, or one that is not UTF-8.
        LayerDecodingError: stdin is not UTF-8.
    """
    if argument is not None and argument != "-":
        prompt = argument_text(argument)
    elif argument == "-" or stdin_is_given():
        prompt = read_stdin()
        if not prompt and argument is None:
            return DEFAULT_PROMPT
    else:
        return DEFAULT_PROMPT
    if not prompt:
        raise UsageError("The prompt is empty; give some text, or '<|endoftext|>' to let the model start by itself.")
    return prompt


def argument_text(argument: str) -> str:
    """A text from the command line, whatever the locale made of its bytes: in LC_ALL=C `→` comes as three of them.

    Raises:
        UsageError: they are not UTF-8.
    """
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        shown = argument.encode("utf-8", "backslashreplace").decode()
        raise UsageError(f"The text '{shown}' is not valid UTF-8; write it in UTF-8.") from None


def stdin_is_given() -> bool:
    """Whether stdin is a pipe, a file or a socket, such as other programs hand over, and no keyboard."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # no stdin, or one that is not a real file
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_stdin() -> str:
    """All of stdin, less one trailing newline."""
    if sys.stdin is None:
        return ""
    return decode_text(sys.stdin.buffer.read(), "Standard input")


def decode_text(raw: bytes, source: str) -> str:
    """Bytes as UTF-8 text with plain newlines, less one trailing newline; `source` names them in an error.

    Raises:
        LayerDecodingError: they are not UTF-8.
    """
    try:
        text = raw.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise LayerDecodingError(
            f"{source} is not UTF-8 text: byte {error.start} is 0x{raw[error.start]:02x}; convert it to UTF-8."
        ) from None
    return text.removesuffix("\n")


STANDARD_INPUT = "-"


def read_text(argument: str | None) -> str:
    """The text of a file, or of stdin for '-' or when it is a pipe or a file; one trailing newline is dropped.

    Raises:
        UsageError: no text named, or an empty one.
        LayerDecodingError: the file cannot be read, or it is not UTF-8 text.
    """
    if argument == "" or (argument is None and not stdin_is_given()):
        raise UsageError("There is no text to read; name a file, or - for standard input.")
    if argument in (None, STANDARD_INPUT):
        name, text = "Standard input", read_stdin()
    else:
        name, text = f"'{argument}'", _read_file(str(argument))
    if "\0" in text:
        raise LayerDecodingError(f"{name} is not text: it has a zero byte; give a UTF-8 text file.")
    if not text:
        raise UsageError(f"{name} is empty; give a text of at least two tokens.")
    return text


def _read_file(path: str) -> str:
    try:
        return decode_text(Path(path).read_bytes(), f"'{path}'")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        reason = getattr(error, "strerror", None) or error
        raise LayerDecodingError(
            f"Cannot read '{path}' ({reason}); give a text file, or - for standard input."
        ) from None
