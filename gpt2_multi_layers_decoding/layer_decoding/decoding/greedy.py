"""Greedy decoding of every layer at once, for about the price of an ordinary decode.

How hidden states come about is in `contexts`. Here they go through the lens, all rows in one product; each row's
likeliest token is kept, and measured if that is wanted.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, get_args

import torch

from layer_decoding.decoding.contexts import HiddenStates, OwnTexts, SharedText
from layer_decoding.errors import UsageError
from layer_decoding.lens.lens import find_lens
from layer_decoding.lens.measures import StepMeasures, measure
from layer_decoding.models.generation import end_ids
from layer_decoding.models.sizes import check_ids, check_lengths, select_layers
from layer_decoding.results.greedy import Candidate, Context, LayerDecoding, LayerRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


OnStep = Callable[[int, dict[int, int]], None]


class DecodingInterrupted(KeyboardInterrupt):
    """Ctrl-C while decoding; `result` holds the steps that were finished, None if there was none."""

    def __init__(self, result: LayerDecoding | None) -> None:
        super().__init__("decoding was interrupted")
        self.result = result


def decode_layers(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    context: Context = "shared",
    layers: Sequence[int] | None = None,
    measures: bool = True,
    candidates: int = 5,
    track: Sequence[int] = (),
    on_step: OnStep | None = None,
) -> LayerDecoding:
    """Greedy text of every layer, and how sure each was, token by token.

    Args:
        prompt_ids: P token ids, at least one.
        context: "shared": every layer predicts the next token of the text the last layer writes;
            "own": every layer continues its own text.
        layers: block numbers to return (0 is the embeddings), None for 1 … L; the last is always there.
        measures: log-probability, entropy, KL, rank and candidates, each [T] a row; False for tokens only.
        candidates: K, how many of the likeliest next tokens to keep at each step.
        track: N token ids whose probability and rank to keep at each step.
        on_step: called as on_step(step, {layer: id}) when a step's tokens are known, step counting from 1.

    Raises:
        UsageError: lengths, layers, context or ids out of range.
        LayerDecodingError: the lens does not reproduce the model's own logits.
        DecodingInterrupted: Ctrl-C; carries what was finished.
    """
    lens = find_lens(model)
    prompt = list(prompt_ids)
    check_lengths(model, prompt, max_new_tokens)
    if context not in get_args(Context):
        raise UsageError(f"The context is {context!r}; it must be 'shared' or 'own'.")
    if candidates < 1:
        raise UsageError(f"The number of candidates is {candidates}; it must be at least 1.")
    check_ids(model, [*prompt, *track])
    shown = select_layers(layers, lens.layer_count)
    decoded = shown if context == "own" else sorted({*shown, *range(1, lens.layer_count + 1)})
    record = _Steps(context, shown, decoded, frozenset(end_ids(model)))
    shown_rows = [decoded.index(layer) for layer in shown]

    def result() -> LayerDecoding:
        settles, rows = record.settles_at(), record.rows()
        return LayerDecoding(context, lens.layer_count, tuple(prompt), max_new_tokens, rows, settles, tuple(track))

    try:
        with torch.inference_mode(), ExitStack() as stack:
            path: HiddenStates = (SharedText if context == "shared" else OwnTexts)(lens, decoded, stack)
            hidden = path.start(prompt)
            for step in range(1, max_new_tokens + 1):
                logits = lens.logits(hidden)  # [R, V]
                ids = logits.argmax(1)  # lowest id on ties
                numbers = None
                if measures or track:
                    rows = logits if shown == decoded else logits[shown_rows]
                    numbers = measure(rows, final=context == "shared", candidates=candidates, track=tuple(track))
                record.add(ids.tolist(), numbers)
                if on_step is not None:
                    on_step(step, record.newest())
                if record.finished or step == max_new_tokens:
                    break
                hidden = path.advance(ids)
    except KeyboardInterrupt:
        raise DecodingInterrupted(result() if record.steps else None) from None
    return result()


class _Steps:
    """Takes a decoding step by step. `decoded` layers get a token each step, the `shown` ones among them a row."""

    def __init__(self, context: Context, shown: list[int], decoded: list[int], ends: frozenset[int]) -> None:
        self.context, self.shown, self.decoded, self.ends = context, shown, decoded, ends
        self.steps: list[tuple[list[int], StepMeasures | None]] = []  # T pairs: ids [R decoded], numbers [R shown]
        self.lengths: dict[int, int] = {}  # layer -> T of a text that has ended

    @property
    def writers(self) -> list[int]:
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

    def newest(self) -> dict[int, int]:
        """{layer: id} of the rows shown that got a token in the newest step."""
        step = len(self.steps)
        chosen = dict(zip(self.decoded, self.steps[-1][0], strict=True))
        return {layer: chosen[layer] for layer in self.shown if self.lengths.get(layer, step) == step}

    def settles_at(self) -> tuple[int, ...] | None:
        """[T]: the first layer from which on, up to L, the top token is the final one. Shared context only."""
        if self.context == "own":
            return None
        settles = []
        for ids, _ in self.steps:
            differing = [layer for layer, token in zip(self.decoded, ids, strict=True) if token != ids[-1]]
            settles.append(max(differing, default=0) + 1)
        return tuple(settles)

    def rows(self) -> tuple[LayerRow, ...]:
        """The rows shown. A text that has ended is cut there; under a shared text every row is as long as it."""
        measured = _by_row([numbers for _, numbers in self.steps if numbers is not None])
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


def _by_row(steps: list[StepMeasures]) -> dict[str, list[Any]]:
    """The measures of T steps as {field of LayerRow: [R][T] plain values}; those not known are left out."""
    if not steps:
        return {}
    table = {}
    for name in StepMeasures.__dataclass_fields__:
        values = [getattr(step, name) for step in steps]
        if values[0] is not None:
            rows = torch.stack(values, 1).tolist()  # [R][T], or [R][T][K] and [R][T][N]
            table[name] = [[tuple(v) if isinstance(v, list) else v for v in row] for row in rows]
    ids, probabilities = table.pop("candidate_ids"), table.pop("candidate_probabilities")
    table["candidates"] = [
        [tuple(map(Candidate, *step)) for step in zip(*row, strict=True)]
        for row in zip(ids, probabilities, strict=True)
    ]
    return table
