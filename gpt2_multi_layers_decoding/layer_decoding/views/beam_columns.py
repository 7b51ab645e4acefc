"""Which column of the drawn tree each live beam has, and the lines from one step's beams to the next one's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layer_decoding.results.beam import TraceStep

Ids = tuple[int, ...]
Places = dict[Ids, int]  # live beam -> column
ROOT: Places = {(): 0}  # before the first step: the prompt


@dataclass(frozen=True)
class Fork:
    """A horizontal line from one beam's column to those of its further children, and the columns it passes behind."""

    origin: int
    targets: tuple[int, ...]
    passing: frozenset[int]  # columns in which a line goes straight down here

    def directions(self, column: int) -> str:
        """In which directions lines leave a column on the fork's line: some of u, d, l and r."""
        low, high = min(self.origin, *self.targets), max(self.origin, *self.targets)
        sides = "l" * (low < column <= high) + "r" * (low <= column < high)
        if column == self.origin:
            return "ud" + sides
        if column in self.targets:
            return "d" + sides
        return "ud" if column in self.passing else sides

    def joins(self, column: int) -> bool:
        """Whether the line goes on from a column to the next on its right."""
        return "r" in self.directions(column) or (
            column in self.passing and min(self.origin, *self.targets) < column < max(self.origin, *self.targets)
        )


def place_beams(steps: Sequence[TraceStep], columns: int) -> list[Places]:
    """A column for every live beam of every step.

    The likeliest child takes its parent's column, the others the free ones nearest to it.
    """
    before, placed = ROOT, []
    for step in steps:
        after: Places = {}
        for beam in step.live:
            if before[beam.ids[:-1]] not in after.values():
                after[beam.ids] = before[beam.ids[:-1]]
        for beam in step.live:
            if beam.ids not in after:
                free = set(range(columns)) - set(after.values())
                after[beam.ids] = min(free, key=lambda column: (abs(column - before[beam.ids[:-1]]), column))
        placed.append(after)
        before = after
    return placed


def forks(before: Mapping[Ids, int], after: Mapping[Ids, int]) -> list[Fork]:
    """One line for every beam with children in other columns than its own, left to right."""
    targets: dict[int, list[int]] = {}
    for ids, column in after.items():
        if column != before[ids[:-1]]:
            targets.setdefault(before[ids[:-1]], []).append(column)
    passing = going_on(before, after)
    lines = []
    for origin in sorted(targets):
        lines.append(Fork(origin, tuple(sorted(targets[origin])), frozenset(passing)))
        passing = passing | set(targets[origin])
    return lines


def going_on(before: Mapping[Ids, int], after: Mapping[Ids, int]) -> set[int]:
    """The columns of the beams that have children."""
    return {before[ids[:-1]] for ids in after}
