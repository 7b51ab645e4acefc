"""Results written to files: whole or not at all, and refused before any work where they could not be written.

What a file holds is decided by its suffix, through a mapping {suffix: function that makes the content}.
"""

import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from layer_decoding.errors import LayerDecodingError, UsageError

Writers = Mapping[str, Callable[[], bytes]]


def check_suffix(path: Path, suffixes: Collection[str]) -> None:
    """Raise UsageError for a file whose suffix says none of the known formats."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"Cannot tell from its name what to write to '{path}'; end it in {' or '.join(suffixes)}.")


def check_targets(paths: Sequence[Path], suffixes: Collection[str]) -> None:
    """Find out before any work whether every file can be written, by writing an empty one beside it.

    Raises:
        UsageError: an unknown suffix.
        LayerDecodingError: a folder that is not there or not writable, a folder in the file's place.
    """
    for path in paths:
        check_suffix(path, suffixes)
    for path in paths:
        _write_beside(path, b"").unlink()


def save(path: Path, writers: Writers) -> None:
    """Write a file by its suffix, replacing one that is there only when all of it has been written.

    Raises:
        UsageError: an unknown suffix.
        LayerDecodingError: the file cannot be written; what was there before still is.
    """
    check_suffix(path, writers)
    content = writers[path.suffix.lower()]()
    temporary = _write_beside(path, content)
    with _explained(path), _removed_on_failure(temporary):
        target = path.resolve()
        if target.exists() and target.stat().st_nlink > 1:
            _overwrite(target, content)
            temporary.unlink()
        else:
            temporary.replace(target)


def _write_beside(path: Path, content: bytes) -> Path:
    """Write the content to a new file in the same folder, where a rename to `path` is one step."""
    with _explained(path):
        target = path.resolve()  # a link's own target is replaced, not the link
        if target.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        if target.exists() and not os.access(target, os.W_OK):
            raise PermissionError(None, "it is read-only")
        # A name of its own, since processes of two containers can have one number; short, whatever the target's is.
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        with _removed_on_failure(temporary), temporary.open("xb") as file:
            if target.exists():
                _take_over(temporary, target.stat())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return temporary


def _take_over(temporary: Path, replaced: os.stat_result) -> None:
    """Give a file the owner and the permissions of the one that it will replace, as far as one may."""
    with suppress(PermissionError, AttributeError):  # AttributeError: Windows has no owners
        os.chown(temporary, replaced.st_uid, replaced.st_gid)
    with suppress(PermissionError):
        temporary.chmod(stat.S_IMODE(replaced.st_mode))


def _overwrite(target: Path, content: bytes) -> None:
    """Write over a file that has other names: a rename would leave them what was there before."""
    before = target.read_bytes()
    try:
        target.write_bytes(content)
    except BaseException:
        target.write_bytes(before)
        raise


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    """Leave no half-written file behind, Ctrl-C included."""
    try:
        yield
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say an OSError as one sentence about the file that the reader named."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to themselves
        reason = getattr(error, "strerror", None) or error
        raise LayerDecodingError(f"Cannot write '{path}' ({reason}); choose a file that can be written.") from None
