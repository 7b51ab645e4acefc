"""The numbers of a step, or of many positions at once: how sure each row is, and how far from the last layer.

    logprob_nats       log p_k(own token)
    entropy_bits       - Σ p_k log2 p_k
    kl_to_final_bits   KL(final ‖ layer) = Σ p_L log2(p_L / p_k)
    final_token_rank   1 + tokens more likely than the last row's + equally likely ones with a lower id
    surprise_bits      - log2 p_k(the text's own token)

Each is a method named as its field. Rows are shifted by their maximum and exponentiated once, a piece of the
vocabulary at a time: whatever is summed over the vocabulary is summed while that piece lies in the cache.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from layer_decoding.lens.finite import check_finite

_PIECE = 4096  # tokens that are looked at together: of more, a sum in float32 would round too much
_SPAN = 512  # tokens, of which the largest logit is found first
_QUICK_TO_ASK = ("cpu", "mps")  # devices that are asked which rows have equals; on others that would be to wait


class Distributions:
    """Next-token distributions of logits, float32 [..., R, V], the last layer's in the last row; numbers [..., R].

    `likeliest` [..., R] are each row's own tokens, `text_ids` [...] the tokens that come next in the text (None: the
    last row's own). log p = logit - largest - log_totals.
    """

    def __init__(
        self, logits: torch.Tensor, likeliest: torch.Tensor | None = None, text_ids: torch.Tensor | None = None
    ) -> None:
        self.logits = logits
        self.likeliest = top_tokens(logits) if likeliest is None else likeliest
        self.text_ids = self.likeliest[..., -1] if text_ids is None else text_ids
        # Each row's maximum becomes 0, so that exp cannot overflow.
        self.largest = logits.gather(-1, self.likeliest[..., None])

    @cached_property
    def _sums(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Over the vocabulary, in one pass: Σ w, Σ w s and Σ w_L (s_L - s), with w = exp(s), s = logit - maximum."""
        totals, shifts, gaps = [], [], []
        for logits in self.logits.split(_PIECE, -1):
            shifted = logits - self.largest
            weights = shifted.exp()
            totals.append(wide(weights.sum(-1)))
            shifts.append(wide(torch.linalg.vecdot(weights, shifted)))
            gaps.append(wide(torch.linalg.vecdot(shifted[..., -1:, :] - shifted, weights[..., -1:, :])))
        return torch.stack(totals).sum(0), torch.stack(shifts).sum(0), torch.stack(gaps).sum(0)

    def _narrow(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers of `wide` as those of the logits."""
        return numbers.to(self.logits.dtype).to(self.logits.device)

    @cached_property
    def log_totals(self) -> torch.Tensor:
        """What a shifted logit is less than its log p."""
        return self._narrow(self._sums[0].log())

    def logprob_nats(self) -> torch.Tensor:
        """log p of each row's own token, which is shifted to 0."""
        return -self.log_totals

    def entropy_bits(self) -> torch.Tensor:
        """How undecided each row is; never below 0, as nothing shifted is above it and no total below 1."""
        totals, shifts, _ = self._sums
        return self._narrow((totals.log() - shifts / totals) / math.log(2))

    def kl_to_final_bits(self) -> torch.Tensor:
        """KL(last of the R rows ‖ row), exactly 0 for the last.

        Σ p_L (log p_L - log p_k), and not the difference of two sums: near the last layer both are much larger than it.
        """
        totals, _, gaps = self._sums
        nats = gaps / totals[..., -1:] + (totals / totals[..., -1:]).log()
        return self._narrow((nats / math.log(2)).clamp_min(0))

    def final_token_rank(self) -> torch.Tensor:
        """Each row's rank of the last row's token."""
        steps = self.logits.reshape(-1, *self.logits.shape[-2:])
        tokens = self.likeliest[..., -1].reshape(-1, 1)
        found = [ranks(rows, token)[:, 0] for rows, token in zip(steps, tokens, strict=True)]
        return torch.stack(found).view(self.likeliest.shape)

    def surprise_bits(self) -> torch.Tensor:
        """How little each row expects the text's own token."""
        own = self.text_ids[..., None, None].expand(*self.likeliest.shape, 1)
        return (self.log_totals - (self.logits.gather(-1, own) - self.largest)[..., 0]) / math.log(2)

    def probabilities(self, ids: torch.Tensor) -> torch.Tensor:
        """The probabilities of tokens, ids [..., R, N]: [..., R, N]."""
        return (self.logits.gather(-1, ids) - self.largest - self.log_totals[..., None]).exp()


@dataclass(frozen=True)
class StepMeasures:
    """One step's numbers, a row each, where its logits are. `columns` are {field: [R]}."""

    columns: dict[str, torch.Tensor]
    candidate_ids: torch.Tensor  # [R, K]
    candidate_probabilities: torch.Tensor  # [R, K]
    tracked_probabilities: torch.Tensor  # [R, N]
    tracked_ranks: torch.Tensor  # [R, N]


def measure(
    logits: torch.Tensor,
    fields: Sequence[str],
    *,
    candidates: int,
    track: Sequence[int] = (),
    text_id: int | None = None,
) -> StepMeasures:
    """Measure one step's logits, float32 [R, V], the last layer's in the last row.

    `fields` are the measures wanted, by the names of their methods; `candidates` is K, `track` the N ids whose
    probabilities and ranks are wanted, `text_id` the token that comes next in the text, None for the last row's.

    On a GPU nothing here waits for a number, so that the host can go on while it works; nor does anything look whether
    the numbers are finite. `Steps.rows` does.
    """
    likeliest = top_candidates(logits, candidates)  # [R, K]
    text = None if text_id is None else torch.tensor(text_id, device=logits.device)
    rows = Distributions(logits, likeliest[:, 0], text)
    track_ids = torch.tensor(list(track), dtype=torch.long, device=logits.device)
    return StepMeasures(
        {field: getattr(rows, field)() for field in fields},
        candidate_ids=likeliest,
        candidate_probabilities=rows.probabilities(likeliest),
        tracked_probabilities=rows.probabilities(track_ids.expand(len(logits), -1)),
        tracked_ranks=ranks(logits, track_ids),
    )


def wide(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers in float64; on the CPU where their device has none (Apple's)."""
    return (numbers.cpu() if numbers.device.type == "mps" else numbers).double()


def top_tokens(logits: torch.Tensor) -> torch.Tensor:
    """The id of the largest logit of each row [..., V], the lowest id on ties: [...].

    Rows of the head that are exactly equal give exactly equal logits here. `generate`, which multiplies one row at a
    time, may round them apart and take another of them: there alone the two can write different texts.

    Raises:
        LayerDecodingError: the largest is not finite.
    """
    largest, ids = largest_logits(logits)
    check_finite(largest)
    return ids


def largest_logits(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row [..., V] and its id, the lowest on ties: [...] both; not finite as it may be.

    A CPU finds a maximum four times as fast as a maximum with its place: so first the span of tokens that holds it.
    """
    spans, rest = logits.shape[-1] // _SPAN, logits.shape[-1] % _SPAN
    if not spans:
        return logits.max(-1)
    parted = logits[..., : spans * _SPAN].unflatten(-1, (spans, _SPAN))
    span = parted.amax(-1).max(-1).indices[..., None, None]
    largest, place = parted.gather(-2, span.expand(*span.shape[:-1], _SPAN))[..., 0, :].max(-1)
    ids = span[..., 0, 0] * _SPAN + place
    if rest:
        last, place = logits[..., -rest:].max(-1)
        later = (last > largest) | last.isnan()
        largest, ids = torch.where(later, last, largest), torch.where(later, place + spans * _SPAN, ids)
    return largest, ids


def top_candidates(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ids of the `count` largest logits of each row [R, V], largest first, lowest id first on ties: [R, count]."""
    count = min(count, logits.shape[1])
    if logits.device.type not in _QUICK_TO_ASK:
        return ordered_keys(logits).topk(count).indices
    values, ids = logits.topk(min(count + 1, logits.shape[1]))
    # topk promises no order among equals, within the count or at its edge: rows that have them are sorted in full.
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
    ids = ids[:, :count]
    if len(tied):
        ids[tied] = logits[tied].sort(dim=1, descending=True, stable=True).indices[:, :count]
    return ids


def ordered_keys(logits: torch.Tensor) -> torch.Tensor:
    """A whole number for each logit, float32 [R, V], in the same order, the lowest id first among equals: int64 [R, V].

    No two of a row are equal, so that any way to find the largest finds the same, and nobody has to look where equals
    are. On a CPU it takes five times as long.
    """
    bits = (logits + 0.0).view(torch.int32).long()  # -0.0 is equal to 0.0 and has other bits
    values = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # the bits below the sign grow away from 0 on both sides
    return values * logits.shape[1] - torch.arange(logits.shape[1], device=logits.device)


def ranks(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The rank of each of the ids [N] in each row of logits [R, V], 1 for the likeliest: int64 [R, N]."""
    places = torch.arange(logits.shape[1], device=logits.device)
    columns = []
    for token in ids.unbind():
        own = logits.index_select(1, token[None])  # [R, 1]
        above = (logits > own) | ((logits == own) & (places < token))
        # Bytes are summed faster as floats than as the booleans that they are, and exactly so up to 2**24 of them.
        columns.append(1 + above.view(torch.uint8).sum(1, dtype=torch.float32).long())
    return torch.stack(columns, 1) if columns else logits.new_empty((len(logits), 0), dtype=torch.long)
