"""How a run is watched and interrupted, whatever its strategy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from layer_decoding.errors import Interrupted

# Called as on_step(step, newest) after each step, counted from 1; `newest` are the tokens that it brought, {row: id},
# where a strategy has any to tell.
OnStep = Callable[[int, dict[Any, int]], None]


@contextmanager
def keeping(result: Callable[[], object | None]) -> Iterator[None]:
    """Turn Ctrl-C into an `Interrupted` with what there is by then.

    Raises:
        Interrupted: Ctrl-C; carries what `result` returns, None for nothing.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(result()) from None
