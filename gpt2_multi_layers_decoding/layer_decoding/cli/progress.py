"""What a reader sees while tokens are written: rows growing in place, or a progress line."""

import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from colorama import Cursor
from colorama.ansi import clear_line, clear_screen
from wcwidth import width

from layer_decoding.terminal.theme import rewraps, screen_size

Draw = Callable[[dict[Any, list[int]], os.terminal_size], list[str]]
OnStep = Callable[[int, dict[Any, int]], None]  # a step, counted from 1, and the tokens that it brought: {row: id}


class Progress(Protocol):
    """Told of every step; `hide` and `close` leave the screen as if nothing had been drawn."""

    def on_step(self, step: int, newest: dict[Any, int]) -> None: ...

    def hide(self) -> None: ...

    def close(self) -> None: ...


class NoProgress:
    """Watches nothing."""

    def on_step(self, step: int, newest: dict[Any, int]) -> None:
        """Say nothing."""

    def hide(self) -> None:
        """Nothing to hide."""

    def close(self) -> None:
        """Nothing to clear."""


class ProgressLine:
    """A bar of steps taken, on stderr if that is a terminal; gone when closed."""

    def __init__(self, total: int, unit: str = "token") -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=total,
            unit=unit,
            leave=False,
            file=sys.stderr,
            disable=None if sys.stderr else True,
            dynamic_ncols=True,
        )

    def on_step(self, step: int, newest: dict[Any, int]) -> None:  # noqa: ARG002
        """Move the bar."""
        self.bar.update(step - self.bar.n)

    def hide(self) -> None:
        """Take the bar away until the next step."""
        self.bar.clear()

    def close(self) -> None:
        """Take the bar away for good."""
        self.bar.close()


class LiveRows:
    """Redraws all rows in place at every step.

    `draw` turns {layer: ids so far} and the size of the screen into lines that fit it.
    """

    def __init__(self, stream: TextIO, draw: Draw) -> None:
        self.stream, self.draw = stream, draw
        self.rows: dict[Any, list[int]] = {}
        self.drawn: list[int] = []  # the cells of each line of the frame on the screen
        self.columns = 0  # of the screen that it was drawn on

    def on_step(self, step: int, newest: dict[Any, int]) -> None:  # noqa: ARG002
        """Take a step's tokens and draw them."""
        for layer, token in newest.items():
            self.rows.setdefault(layer, []).append(token)
        size = screen_size(self.stream)
        lines = self.draw(self.rows, size)[1 - size.lines :]  # below them the cursor waits
        # Each line is cleared before it is written: after a full line the cursor still stands on its last cell.
        self._write(self._top() + "".join(f"\r{clear_line(0)}{line}\n" for line in lines) + clear_screen(0))
        self.drawn, self.columns = list(map(width, lines)), size.columns

    def close(self) -> None:
        """Take the frame away; what is printed next starts where it stood."""
        self.hide()

    def hide(self) -> None:
        """Take the frame away until the next step."""
        if self.drawn:
            # Line by line: some terminals keep a copy of a screen that is cleared whole.
            top = self._top()
            self._write(top + f"{clear_line(2)}\n" * self._height() + top)
            self.drawn = []

    def _height(self) -> int:
        """The lines that the frame takes now: more than were drawn where the screen is narrower and wraps them anew."""
        columns = min(self.columns, screen_size(self.stream).columns) if rewraps() else self.columns
        return sum(max(1, -(-cells // columns)) for cells in self.drawn)

    def _top(self) -> str:
        """What moves the cursor to the frame's first line."""
        return "\r" + Cursor.UP(self._height()) if self.drawn else ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
