"""What can go wrong, each one sentence with its exit code, and what is left of a run that was interrupted.

Raised anywhere, turned into a line on stderr and an exit code in one place only, `cli.running`.
"""

import re
from collections.abc import Sequence
from typing import Any


class LayerDecodingError(Exception):
    """A failure that one sentence explains: what is wrong, with the numbers, and what to do.

    `settings` names the parameters that would mend it, as Python has them ("num_beams"): a command line says how
    they are typed. `exit_code` 1: the world is not as asked (files, Hub, device, memory, output).
    """

    exit_code = 1

    def __init__(self, message: str, *, settings: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.settings = tuple(settings)


class UsageError(LayerDecodingError):
    """A failure that a different command line or argument mends: options, numbers, layers, the prompt."""

    exit_code = 2


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `result` holds what was finished by then, None if there was nothing."""

    def __init__(self, result: Any | None) -> None:
        super().__init__("interrupted")
        self.result = result


_MEMORY_PHRASES = (
    "out of memory",
    "not enough memory",
    "can't allocate",
    "cannot allocate",
    "alloc_failed",
    "bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the host or on an accelerator.

    Decided by the type's name and the message, so that this module never imports torch: torch raises its own
    ``OutOfMemoryError`` on CUDA, but a plain RuntimeError on the CPU and on MPS, and mapping a file raises OSError.
    """
    if any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__):
        return True
    message = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(phrase in message for phrase in _MEMORY_PHRASES)


def brief(error: BaseException) -> str:
    """The first sentence of a library's message on one line, at most 160 characters; the type's name if it has none."""
    text = re.split(r"\. (?=[A-Z])", " ".join(str(error).split()))[0].rstrip(".") or type(error).__name__
    return text if len(text) <= 160 else text[:159] + "…"


_INSTALL = re.compile(r"(?:pip|need to) install (?:-{1,2}[\w-]+ )*['\"`]?([A-Za-z][\w.\[\],-]*)")


def missing_package(error: BaseException) -> str | None:
    """The package that a library's message asks to have installed, or the module that is not there; else None."""
    asked = _INSTALL.search(str(error))
    return asked[1].rstrip(".-") if asked else getattr(error, "name", None) if isinstance(error, ImportError) else None
