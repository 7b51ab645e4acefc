"""What a reader hands over: a prompt or a text, as an argument, from stdin or from a file."""

import codecs
import io
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

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
    return "".join(decoded(io.BytesIO(raw), source))


def decoded(file: IO[bytes], source: str) -> Iterator[str]:
    """As `decode_text` a whole file, piece by piece."""
    decoder, held, count = codecs.getincrementaldecoder("utf-8")(), "", 0
    begun = False
    while True:
        try:
            raw = file.read(_READ_AT_ONCE)
        except OSError as error:
            raise LayerDecodingError(
                f"{source} cannot be read ({error.strerror or error}); give a text file."
            ) from None
        count += len(raw)
        try:
            text = held + decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            place = count - len(error.object) + error.start  # the decoder may have kept the beginning of a character
            raise LayerDecodingError(
                f"{source} is not UTF-8 text: byte {place} is 0x{error.object[error.start]:02x}; convert it to UTF-8."
            ) from None
        if text and not begun:
            text, begun = text.removeprefix("\ufeff"), True
        text = text.replace("\r\n", "\n")
        if not raw:
            yield text.removesuffix("\n")
            return
        # The last newline may be the file's, and \r the first half of one.
        held = text[-1:] if text.endswith(("\r", "\n")) else ""
        yield text.removesuffix(held)


STANDARD_INPUT = "-"
_READ_AT_ONCE = 2**20  # bytes
_HELD_IN_MEMORY = 2**26  # bytes of a stream; what comes after goes to a file


@dataclass(frozen=True)
class Text:
    """A text to read, as often as wanted, a piece at a time: it may be larger than memory."""

    file: IO[bytes]
    source: str  # what it is called in a sentence

    def __iter__(self) -> Iterator[str]:
        self.file.seek(0)
        return decoded(self.file, self.source)


def read_text(argument: str | None) -> Text:
    """The text of a file, or of stdin for '-' or when it is a pipe or a file; one trailing newline is dropped.

    Raises:
        UsageError: no text named, or an empty one.
        LayerDecodingError: the file cannot be read, or it is not UTF-8 text.
    """
    if argument == "" or (argument is None and not stdin_is_given()):
        raise UsageError("There is no text to read; name a file, or - for standard input.")
    text = _opened(argument)
    empty = True
    for piece in text:
        if "\0" in piece:
            raise LayerDecodingError(f"{text.source} is not text: it has a zero byte; give a UTF-8 text file.")
        empty = empty and not piece
    if empty:
        raise UsageError(f"{text.source} is empty; give a text of at least two tokens.")
    return text


def _opened(argument: str | None) -> Text:
    """A file, or a stream as one: what can be read only once is kept aside."""
    if argument is None or argument == STANDARD_INPUT:
        stream = io.BytesIO() if sys.stdin is None else sys.stdin.buffer
        return Text(_kept(stream), "Standard input")
    try:
        file = open(argument, "rb")  # noqa: SIM115, PTH123 - read until the script ends
        return Text(file if file.seekable() else _kept(file), f"'{argument}'")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte in it
        reason = getattr(error, "strerror", None) or error
        raise LayerDecodingError(
            f"Cannot read '{argument}' ({reason}); give a text file, or - for standard input."
        ) from None


def _kept(stream: IO[bytes]) -> IO[bytes]:
    """All of a stream, in memory or in an unnamed file."""
    import tempfile

    kept = tempfile.SpooledTemporaryFile(_HELD_IN_MEMORY)  # noqa: SIM115 - read until the script ends
    try:
        shutil.copyfileobj(stream, kept)
    except OSError as error:
        raise LayerDecodingError(
            f"The text does not fit in {tempfile.gettempdir()} ({error.strerror or error}); name a file instead, or set"
            " TMPDIR to a folder with more room."
        ) from None
    return kept
