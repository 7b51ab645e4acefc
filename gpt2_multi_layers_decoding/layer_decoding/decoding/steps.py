"""What every layer said, step by step, and the rows that it makes: along a text that is written, or read.

A step's numbers stay on the model's device until all are wanted, its tokens until somebody looks: to look at each step
as it comes would be to wait for a GPU that often.
"""

from typing import Any

import torch

from layer_decoding.layers import Layer
from layer_decoding.lens.finite import check_finite, not_finite
from layer_decoding.lens.measures import StepMeasures, largest_logits
from layer_decoding.results.greedy import Candidate, Context, LayerRow


class Steps:
    """Takes a decoding step by step. `decoded` layers get a token each step, the `shown` ones among them a row."""

    def __init__(self, context: Context, shown: list[Layer], decoded: list[Layer], ends: frozenset[int]) -> None:
        self.context, self.shown, self.decoded, self.ends = context, shown, decoded, ends
        self.steps: list[tuple[list[int], StepMeasures | None]] = []  # T pairs: ids [R decoded], numbers [R shown]
        self.lengths: dict[Layer, int] = {}  # layer -> T of a text that has ended
        # What was taken and not looked at yet among it: ids and largest logits [R decoded], numbers.
        self.taken: list[tuple[torch.Tensor, torch.Tensor, StepMeasures | None]] = []

    @property
    def count(self) -> int:
        """T, so far."""
        return len(self.steps)

    @property
    def writers(self) -> list[Layer]:
        """The layers that write a text: the last one, or in own context all of them."""
        return self.decoded if self.context == "own" else self.decoded[-1:]

    @property
    def finished(self) -> bool:
        """Whether every text has ended."""
        return len(self.lengths) == len(self.writers)

    def add(self, ids: list[int], numbers: StepMeasures | None) -> None:
        """Take one step. Ids and numbers go in together, so that an interruption leaves whole steps."""
        self.steps.append((ids, numbers))
        chosen = dict(zip(self.decoded, ids, strict=True))
        for layer in self.writers:
            if chosen[layer] in self.ends:
                self.lengths.setdefault(layer, len(self.steps))

    def take(self, logits: torch.Tensor, numbers: StepMeasures | None) -> torch.Tensor:
        """Take one step as it lies on the device, logits [R decoded, V]: the ids of its tokens [R decoded]."""
        largest, ids = largest_logits(logits)
        self.taken.append((ids, largest, numbers))
        return ids

    def look(self) -> None:
        """Add what was taken, up to the step that ends every text: the rest was taken in vain.

        Raises:
            LayerDecodingError: a step's largest logits are not finite.
        """
        unseen = self.taken[self.count :]  # so that an interruption in here leaves nothing out, and nothing twice
        if not unseen or self.finished:
            return
        every_ids = torch.stack([ids for ids, _, _ in unseen]).tolist()
        finite = torch.stack([largest for _, largest, _ in unseen]).isfinite().all(1).tolist()
        for chosen, is_finite, (_, _, numbers) in zip(every_ids, finite, unseen, strict=True):
            if self.finished:
                break
            if not is_finite:
                raise not_finite()
            self.add(chosen, numbers)

    def newest(self) -> dict[Layer, int]:
        """{layer: id} of the rows shown that got a token in the newest step."""
        step = len(self.steps)
        chosen = dict(zip(self.decoded, self.steps[-1][0], strict=True))
        return {layer: chosen[layer] for layer in self.shown if self.lengths.get(layer, step) == step}

    def settles_at(self) -> tuple[Layer, ...] | None:
        """[T]: the first layer from which on, up to L, the top token is the final one. Shared context only."""
        if self.context == "own":
            return None
        settles = []
        for ids, _ in self.steps:
            differing = [layer for layer, token in zip(self.decoded, ids, strict=True) if token != ids[-1]]
            last: Layer = max(differing, default=0)
            settles.append(min(layer for layer in self.decoded if layer > last))  # the embeddings are never the first
        return tuple(settles)

    def rows(self) -> tuple[LayerRow, ...]:
        """The rows shown. A text that has ended is cut there; under a shared text every row is as long as it.

        Raises:
            LayerDecodingError: a number that is not finite.
        """
        measured = _by_row([numbers for _, numbers in self.steps if numbers is not None])  # {field: [R][T]}
        rows = []
        for number, layer in enumerate(self.shown):
            place = self.decoded.index(layer)
            ids = [step_ids[place] for step_ids, _ in self.steps]
            ended_at = self.lengths.get(layer if self.context == "own" else self.decoded[-1])
            length = ended_at or len(ids)
            columns = {name: tuple(values[number][:length]) for name, values in measured.items()}
            finished = ended_at is not None and ids[length - 1] in self.ends
            rows.append(LayerRow(layer, tuple(ids[:length]), finished, **columns))
        return tuple(rows)


def _by_row(steps: list[StepMeasures]) -> dict[str, list[list[Any]]]:
    """The measures of T steps as {field of LayerRow: [R][T] plain values}."""
    if not steps:
        return {}

    def table(values: list[torch.Tensor]) -> list[Any]:
        return list(torch.stack(values, 1).tolist())

    columns = {field: torch.stack([step.columns[field] for step in steps], 1).cpu() for field in steps[0].columns}
    check_finite(*columns.values())
    ids = table([step.candidate_ids for step in steps])  # [R][T][K]
    probabilities = table([step.candidate_probabilities for step in steps])
    return {
        **{field: column.tolist() for field, column in columns.items()},
        "candidates": [
            [tuple(map(Candidate, *step)) for step in zip(*row, strict=True)]
            for row in zip(ids, probabilities, strict=True)
        ],
        "tracked_probabilities": _tuples(table([step.tracked_probabilities for step in steps])),
        "tracked_ranks": _tuples(table([step.tracked_ranks for step in steps])),
    }


def _tuples(rows: list[Any]) -> list[list[Any]]:
    return [[tuple(step) for step in row] for row in rows]
