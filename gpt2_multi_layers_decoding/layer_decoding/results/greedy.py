"""What decoding returns: frozen dataclasses of plain Python values, no text and no torch.

Rendering and JSON take these and the tokenizer; a stored result renders the same on any machine.
"""

from dataclasses import dataclass
from typing import Literal

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
    asked for, or that own context cannot know, is None.
    """

    layer: int
    ids: tuple[int, ...]
    finished: bool
    logprob_nats: tuple[float, ...] | None = None
    entropy_bits: tuple[float, ...] | None = None
    kl_to_final_bits: tuple[float, ...] | None = None
    final_token_rank: tuple[int, ...] | None = None
    candidates: tuple[tuple[Candidate, ...], ...] | None = None  # [T][K]
    tracked_probabilities: tuple[tuple[float, ...], ...] | None = None  # [T][N]
    tracked_ranks: tuple[tuple[int, ...], ...] | None = None  # [T][N]


@dataclass(frozen=True)
class LayerDecoding:
    """The greedy decoding of every layer asked for: `rows` in ascending order, the last layer's last."""

    context: Context
    layer_count: int
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    rows: tuple[LayerRow, ...]
    settles_at: tuple[int, ...] | None  # [T]: layer from which on the choice stays; None in own context
    tracked_ids: tuple[int, ...] = ()

    @property
    def final_row(self) -> LayerRow:
        """The last layer's row: the model itself."""
        return self.rows[-1]

    def agrees(self, row: LayerRow) -> tuple[bool, ...]:
        """Whether each of a row's tokens is the last layer's token at the same step: [T of that row]."""
        final = self.final_row.ids
        return tuple(t < len(final) and token == final[t] for t, token in enumerate(row.ids))


def partial_decoding(
    context: Context, layer_count: int, prompt_ids: list[int], max_new_tokens: int, rows: dict[int, list[int]]
) -> LayerDecoding:
    """A decoding under way, tokens only: {layer: ids so far}, as a view that grows shows it."""
    written = tuple(LayerRow(layer, tuple(ids), finished=False) for layer, ids in sorted(rows.items()))
    return LayerDecoding(context, layer_count, tuple(prompt_ids), max_new_tokens, written, settles_at=None)
