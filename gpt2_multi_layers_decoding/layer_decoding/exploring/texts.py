"""The texts tried so far: branches, each with what every layer says along it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.terminal.alignment import common_prefix


@dataclass(frozen=True)
class Branch:
    """A text after the prompt: `steps` are n + 1 decodings of one token, of which the last is not written yet."""

    steps: tuple[LayerDecoding, ...]

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """What is written: [n]."""
        return tuple(step.text_ids[0] for step in self.steps[:-1])

    @cached_property
    def sums_nats(self) -> tuple[float, ...]:
        """The log-probability that the last layer gives to the text before each step, and to all of it: [n + 1]."""
        sums = [0.0]
        for step in self.steps[:-1]:
            sums.append(sums[-1] - (step.final_row.surprise_bits or (0.0,))[0] * math.log(2))
        return tuple(sums)

    @property
    def open_step(self) -> int:
        """The number of the step that is not written yet, counted from 1."""
        return len(self.steps)

    @property
    def is_greedy(self) -> bool:
        """Whether every token is the last layer's."""
        return all(step.is_greedy for step in self.steps)


@dataclass(frozen=True)
class Texts:
    """All branches, in the order in which they were begun, and which one is looked at."""

    branches: tuple[Branch, ...]
    number: int = 0

    @property
    def branch(self) -> Branch:
        """The one that is looked at."""
        return self.branches[self.number]

    def changed(self, branch: Branch) -> "Texts":
        """With another text in this one's place; one that is there already is not there twice."""
        branches = [*self.branches]
        branches[self.number] = branch
        kept = [other for n, other in enumerate(branches) if n == self.number or other.ids != branch.ids]
        return Texts(tuple(kept), kept.index(branch))

    def begun(self, branch: Branch) -> "Texts":
        """With one more, looked at."""
        return Texts((*self.branches, branch), len(self.branches))

    def turned(self, by: int) -> "Texts":
        """Another one looked at, so many further on, around the end."""
        return replace(self, number=(self.number + by) % len(self.branches))

    def dropped(self) -> "Texts":
        """Without the one that is looked at; the one before it is."""
        left = (*self.branches[: self.number], *self.branches[self.number + 1 :])
        return Texts(left, max(0, self.number - 1))

    def beginning_so(self, ids: Sequence[int]) -> int | None:
        """The number of a branch that begins with a text, the one looked at first."""
        order = [self.number, *range(len(self.branches))]
        return next((n for n in order if self.branches[n].ids[: len(ids)] == tuple(ids)), None)

    def parts_from(self, number: int) -> tuple[int, int] | None:
        """The earlier branch that shares most with one, and the step at which they part; None for the first."""
        shared = [common_prefix(other.ids, self.branches[number].ids) for other in self.branches[:number]]
        return (shared.index(max(shared)), max(shared) + 1) if shared else None

    def compared(self) -> int | None:
        """The number of the branch to put beside the one looked at: the one it left, or the next; None if alone."""
        if len(self.branches) == 1:
            return None
        parting = self.parts_from(self.number)
        return self.number + 1 if parting is None else parting[0]
