"""How a script's process begins and ends: interrupted at once while nothing is there to lose, and gone when done.

Who is run, by its name or as an installed command, begins and leaves here; who is only imported does neither.
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import NoReturn

INTERRUPTED = 130
_WORTH_SPLITTING = 30_000_000  # parameters
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def begin() -> None:
    """First of all in a process: from here on Ctrl-C ends it with one line, also while the other imports run."""
    with suppress(ValueError):  # not the main thread, which alone may say so
        signal.signal(signal.SIGINT, leave_at_once)


def leave_at_once(*_: object) -> None:
    """What Ctrl-C does where there is no result to keep.

    An exception in the middle of a library's import is swallowed there, or told as a fault of what was imported.
    """
    with suppress(OSError):
        os.write(2, b"\nInterrupted.\n")
    os._exit(INTERRUPTED)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """While open, Ctrl-C ends the process at once; in another thread than the main one nothing changes."""
    try:
        before = signal.signal(signal.SIGINT, leave_at_once)
    except ValueError:  # not the main thread, which alone may say so
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def results_are_kept() -> None:
    """From here on Ctrl-C is an exception again, which a run turns into what it has found."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def looking_for_no_garbage() -> Iterator[None]:
    """While open, as the libraries are imported: the million objects that they make stay, and need not be looked at.

    Nor afterwards: the first time they are set aside.
    """
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        _set_aside()
        if looked:
            gc.enable()


@cache  # once in a process: what comes later may become garbage
def _set_aside() -> None:
    gc.freeze()


def wait_without_spinning() -> None:
    """Let threads that wait for each other sleep, which on a busy machine is many times faster; before torch is there.

    A reader who has set how threads are to behave is obeyed.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Keep memory that is freed for the next step, which would otherwise be handed to it anew, page by page.

    A step over a vocabulary frees megabytes in pieces that glibc gives back to the system at once.
    """
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return
    import ctypes

    with suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, 2**29)
        library.mallopt(_MMAP_THRESHOLD, 2**25)  # the largest there is


def use_one_thread(parameters: int) -> None:
    """Compute a model of so few parameters by one thread: more of them would mostly wait for each other."""
    if parameters < _WORTH_SPLITTING and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)


def leave(code: int) -> NoReturn:
    """End the process, everything written: the interpreter would first take the libraries apart, most of a second."""
    import atexit
    import logging

    with suppress(Exception):
        atexit._run_exitfuncs()  # coverage and others that asked to be told
    with suppress(Exception):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
