"""Frames of painted lines as runs: what stands in one place from one frame on up to another, said once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from layer_decoding.terminal.looks import Look, Sign


@dataclass
class Run:
    """Signs beside each other that look the same, from a frame on up to another, None: to the end."""

    row: int
    column: int
    start: int
    end: int | None
    look: Look
    text: str
    cells: int
    kind: str  # of its signs, by how fonts draw them

    @property
    def shows_blanks(self) -> bool:
        """Whether a blank of it would be seen."""
        return self.look.underlined or self.look.reversed or self.look.background is not None

    @property
    def is_blank(self) -> bool:
        """Whether nothing of it is seen."""
        return self.text.isspace() and not self.shows_blanks

    def takes(self, run: "Run") -> bool:
        """Whether the next one is part of this. After a gap none is: columns stay columns in any font."""
        if (self.row, self.column + self.cells, self.end) != (run.row, run.column, run.end):
            return False
        if run.is_blank and not self.shows_blanks:
            return True
        same = (self.start, self.look, self.kind) == (run.start, run.look, run.kind)
        return same and (run.text == " " or not self.text.endswith("  "))


def runs_of(frames: Sequence[Sequence[Sequence[Sign]]]) -> tuple[list[Run], list[Run]]:
    """What stands in the last frame, line by line, and what stood only in others."""
    seen: dict[tuple[int, int, Sign], list[int]] = {}
    for now, lines in enumerate(frames):
        for row, line in enumerate(lines):
            column = 0
            for sign in line:
                seen.setdefault((row, column, sign), []).append(now)
                column += sign.cells
    staying, passing = [], []
    for (row, column, sign), times in seen.items():
        for start, end in _stretches(times):
            stays = end == len(frames)
            run = Run(row, column, start, None if stays else end, sign.look, sign.text, sign.cells, _kind(sign))
            if stays:
                staying.append(run)
            elif not run.is_blank:
                passing.append(run)
    staying.sort(key=lambda run: (run.row, run.column))
    passing.sort(key=lambda run: (run.row, run.start, run.end, run.column))
    return _joined(staying), _joined(passing)


def _stretches(times: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges without gaps: the first of each, and the one after its last."""
    for _, group in groupby(enumerate(times), key=lambda pair: pair[1] - pair[0]):
        numbers = [time for _, time in group]
        yield numbers[0], numbers[-1] + 1


def _kind(sign: Sign) -> str:
    """Signs that every monospace font has, in its own width; wide ones; others, borrowed from any font."""
    if sign.cells > 1:
        return "wide"
    return "own" if max(sign.text) < "\u0250" else "borrowed"


def _joined(runs: Iterable[Run]) -> list[Run]:
    """Neighbours that are one run as one."""
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].takes(run):
            joined[-1].text += run.text
            joined[-1].cells += run.cells
        else:
            joined.append(run)
    return joined
