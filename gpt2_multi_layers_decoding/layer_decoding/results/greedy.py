"""Every layer along one text: frozen dataclasses of plain Python values, no strings of the tokenizer and no torch.

Rendering and JSON take these and the tokenizer; a stored result renders the same on any machine.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from layer_decoding.layers import PLAIN_LENS, Layer

Context = Literal["shared", "own"]


@dataclass(frozen=True)
class Candidate:
    """One of the K likeliest next tokens: its id and the model's probability of it."""

    id: int
    probability: float


@dataclass(frozen=True)
class LayerRow:
    """What one layer would have said: every list has one entry a generated token (T).

    `ids` includes the end-of-text that ended the row, if one did (`finished`). A measure that was not
    asked for, or that own context cannot know, is None. `measures` tells what each is.
    """

    layer: Layer
    ids: tuple[int, ...]
    finished: bool
    logprob_nats: tuple[float, ...] | None = None
    entropy_bits: tuple[float, ...] | None = None
    kl_to_final_bits: tuple[float, ...] | None = None
    final_token_rank: tuple[int, ...] | None = None
    surprise_bits: tuple[float, ...] | None = None
    candidates: tuple[tuple[Candidate, ...], ...] | None = None  # [T][K]
    tracked_probabilities: tuple[tuple[float, ...], ...] | None = None  # [T][N]
    tracked_ranks: tuple[tuple[int, ...], ...] | None = None  # [T][N]


@dataclass(frozen=True, repr=False)
class LayerDecoding:
    """What every layer asked for says along a text: `rows` in ascending order, the last layer's last.

    `text_ids` is that text: the token at place t is the one that the rows had read up to there predict at step t.
    Greedy decoding reads along the text that the last layer writes; a beam, a sample or a given passage is read
    along as it stands, and the last layer may well have preferred another token.
    """

    context: Context
    layer_count: int
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    rows: tuple[LayerRow, ...]
    settles_at: tuple[Layer, ...] | None  # [T]: layer from which on the choice stays; None in own context
    tracked_ids: tuple[int, ...] = ()
    text_ids: tuple[int, ...] = ()  # [T]; the last layer's own tokens where no text is given
    lens: str = PLAIN_LENS  # what the rows were read with

    def __post_init__(self) -> None:
        if not self.text_ids:
            object.__setattr__(self, "text_ids", self.final_row.ids)

    def __repr__(self) -> str:
        layers = ", ".join(str(row.layer) for row in self.rows[:-1][:3])
        named = f"{layers}, … {self.final_row.layer}" if len(self.rows) > 4 else f"{layers}, {self.final_row.layer}"
        return f"<LayerDecoding: {self.context} context, layers {named.strip(', ')}, {len(self.text_ids)} tokens>"

    @property
    def final_row(self) -> LayerRow:
        """The last layer's row: the model itself."""
        return self.rows[-1]

    @property
    def is_greedy(self) -> bool:
        """Whether the text is what the last layer itself says at every step."""
        return self.text_ids == self.final_row.ids

    def leaders(self, step: int) -> list[int]:
        """The tokens on top at any layer at a step, from 1, in the order of the layers, and the text's own."""
        return list(dict.fromkeys([*(row.ids[step - 1] for row in self.rows), self.text_ids[step - 1]]))

    def agrees(self, row: LayerRow) -> tuple[bool, ...]:
        """Whether each of a row's tokens is the last layer's token at the same step: [T of that row]."""
        final = self.final_row.ids
        return tuple(t < len(final) and token == final[t] for t, token in enumerate(row.ids))

    def correct(self, row: LayerRow) -> tuple[bool, ...]:
        """Whether each of a row's tokens is the text's own: [T of that row]."""
        return tuple(t < len(self.text_ids) and token == self.text_ids[t] for t, token in enumerate(row.ids))


def partial_decoding(
    context: Context, layer_count: int, prompt_ids: list[int], max_new_tokens: int, rows: dict[Layer, list[int]]
) -> LayerDecoding:
    """A decoding under way, tokens only: {layer: ids so far}, as a view that grows shows it."""
    written = tuple(LayerRow(layer, tuple(ids), finished=False) for layer, ids in sorted(rows.items()))
    return LayerDecoding(context, layer_count, tuple(prompt_ids), max_new_tokens, written, settles_at=None)


def joined(
    steps: Sequence[LayerDecoding], prompt_ids: Sequence[int], written: int, ends: Collection[int] = ()
) -> LayerDecoding:
    """The first `written` of some steps, each a decoding of one token in shared context, as one decoding.

    `steps` holds one at least, so that the layers are known where nothing is written. A text whose last token is one of
    `ends` has ended.
    """
    text_ids = tuple(step.text_ids[0] for step in steps[:written])
    has_ended = bool(text_ids) and text_ids[-1] in ends
    rows = []
    for number, first in enumerate(steps[0].rows):
        parts = [step.rows[number] for step in steps[:written]]
        columns = {
            field.name: tuple(value for part in parts for value in getattr(part, field.name))
            for field in fields(LayerRow)
            if isinstance(getattr(first, field.name), tuple)
        }
        finished = has_ended and parts[-1].ids[-1] in ends
        rows.append(LayerRow(first.layer, finished=finished, **columns))
    settles = tuple(layer for step in steps[:written] for layer in step.settles_at or ())
    first_step = steps[0]
    return LayerDecoding(
        "shared",
        first_step.layer_count,
        tuple(prompt_ids),
        written,
        tuple(rows),
        settles,
        (),
        text_ids,
        lens=first_step.lens,
    )


def with_fewer_candidates(decoding: LayerDecoding, count: int) -> LayerDecoding:
    """The same with at most `count` of the likeliest tokens at each step."""
    rows = tuple(
        replace(row, candidates=tuple(step[:count] for step in row.candidates)) if row.candidates else row
        for row in decoding.rows
    )
    return replace(decoding, rows=rows)
