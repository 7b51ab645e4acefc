"""One script run as several processes by torchrun: which of them speaks, and how all of them end with one sentence.

torchrun tells each process its place in the environment, and ends the others where one has failed.
"""

import os
import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from layer_decoding.cli.process import INTERRUPTED, leave, wait_without_spinning
from layer_decoding.cli.progress import OnStep
from layer_decoding.errors import LayerDecodingError, UsageError

_TOLD = "layer-decoding/told"  # in the store: how many processes have had something to say about a failure


@dataclass(frozen=True)
class Place:
    """A process among `count`, and the store of torch's where they meet."""

    rank: int
    count: int
    store: Any

    @property
    def is_first(self) -> bool:
        """Whether this is the one that speaks."""
        return self.rank == 0

    def may_tell(self) -> bool:
        """Whether no other process has told of a failure yet; so asks who is about to tell."""
        try:
            return int(self.store.add(_TOLD, 1)) == 1
        except RuntimeError:  # the store is gone, with the first machine
            return self.is_first

    def look(self, on_step: OnStep, step: int, newest: dict[Any, int]) -> None:
        """Take a step; where another process has failed, end, as torchrun ends those of one machine."""
        try:
            failed = self.store.check([_TOLD])
        except RuntimeError:
            failed = True
        if failed:
            raise SystemExit(1)
        on_step(step, newest)


def runs_under_torchrun() -> bool:
    """Whether torchrun has started this process; RANK alone is also set where somebody else shares out machines."""
    return {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} <= os.environ.keys()


@contextmanager
def among_processes(args: Namespace) -> Iterator[Place | None]:
    """While open, this process has its place among those that torchrun started; None where it started none.

    All but the first are silent, and each takes a GPU of its own where there are any. A failure is told by the process
    that has it first, unless another has told of one; the exit code is the same.
    """
    if not runs_under_torchrun():
        yield None
        return
    wait_without_spinning()  # before torch is there
    place = Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), _store())
    args.quiet = args.quiet or not place.is_first
    args.device = _own_device(args.device)
    with _told_when_ended(place):
        try:
            yield place
        except KeyboardInterrupt:
            if place.is_first:
                raise
            raise SystemExit(INTERRUPTED) from None
        except LayerDecodingError as error:
            if place.may_tell():
                raise
            raise SystemExit(error.exit_code) from None
        except Exception:
            if place.may_tell():
                raise
            raise SystemExit(1) from None


def check_shared(file: str | None, place: Place | None) -> None:
    """Refuse standard input, which each process would read a part of."""
    if place is not None and place.count > 1 and file in (None, "-"):
        raise UsageError(f"Standard input cannot be read by {place.count} processes; name a file.")


def _store() -> Any:
    """Where the processes meet, as the environment says: at the agent of the first machine's torchrun."""
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://"))
    except (RuntimeError, ValueError) as error:
        raise LayerDecodingError(
            "The processes that torchrun started do not find each other; start them again."
        ) from error
    return store


def _own_device(asked: str) -> str:
    """The GPU of this process among those of its machine, unless another device was asked for."""
    import torch

    if asked not in ("auto", "cuda") or not torch.cuda.is_available():
        return asked
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


@contextmanager
def _told_when_ended(place: Place) -> Iterator[None]:
    """While open, a process that torchrun ends, since another has died, says so if none has."""

    def end(*_: object) -> None:
        if place.may_tell():
            with suppress(OSError):
                os.write(2, b"error: Another process of this run has died, and with it the run; start it again.\n")
        leave(1)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
