"""What a reader sees while tokens are written: rows growing in place, or a progress line."""

import shutil
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from colorama import Cursor
from colorama.ansi import clear_line, clear_screen

Draw = Callable[[dict[Any, list[int]]], list[str]]
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
    """Redraws all rows in place at every step, as long as the whole frame fits the screen.

    `draw` turns {layer: ids so far} into lines no wider than the screen. A frame that does not fit, or a
    screen that changes its size (its lines would be counted wrongly), hands over to the progress line.
    """

    def __init__(self, stream: TextIO, draw: Draw, total: int) -> None:
        self.stream, self.draw, self.total = stream, draw, total
        self.size = shutil.get_terminal_size()
        self.rows: dict[Any, list[int]] = {}
        self.height = 0  # lines of the frame on the screen
        self.successor: ProgressLine | None = None

    def on_step(self, step: int, newest: dict[Any, int]) -> None:
        """Take a step's tokens and draw them."""
        for layer, token in newest.items():
            self.rows.setdefault(layer, []).append(token)
        if self.successor is not None:
            self.successor.on_step(step, newest)
            return
        lines = self.draw(self.rows)
        if len(lines) >= self.size.lines or shutil.get_terminal_size() != self.size:
            self.close()
            self.successor = ProgressLine(self.total)
            return
        # Each line is cleared before it is written: after a full line the cursor still stands on its last cell.
        self._write(self._top() + "".join(f"\r{clear_line(0)}{line}\n" for line in lines) + clear_screen(0))
        self.height = len(lines)

    def close(self) -> None:
        """Take the frame away; what is printed next starts where it stood."""
        if self.successor is not None:
            self.successor.close()
        self.hide()

    def hide(self) -> None:
        """Take the frame away until the next step."""
        if self.height:
            # Line by line: some terminals keep a copy of a screen that is cleared whole.
            self._write(self._top() + f"{clear_line(2)}\n" * self.height + self._top())
            self.height = 0

    def _top(self) -> str:
        """What moves the cursor to the frame's first line."""
        return "\r" + Cursor.UP(self.height) if self.height else ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
