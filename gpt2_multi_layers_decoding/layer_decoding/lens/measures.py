"""The numbers of a step, or of many positions at once: how sure each row is, and how far from the last layer.

    logprob_nats       log p_k(own token)
    entropy_bits       - Σ p_k log2 p_k
    kl_to_final_bits   KL(final ‖ layer) = Σ p_L log2(p_L / p_k)
    rank of a token    1 + tokens more likely + equally likely ones with a lower id

Rows are shifted by their maximum and exponentiated once; entropy and KL are then sums over what lies in cache.
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StepMeasures:
    """One step's numbers, a row each; on the CPU."""

    logprob_nats: torch.Tensor  # [R]
    entropy_bits: torch.Tensor  # [R]
    kl_to_final_bits: torch.Tensor | None  # [R]
    final_token_rank: torch.Tensor | None  # [R]
    candidate_ids: torch.Tensor  # [R, K]
    candidate_probabilities: torch.Tensor  # [R, K]
    tracked_probabilities: torch.Tensor  # [R, N]
    tracked_ranks: torch.Tensor  # [R, N]


@dataclass(frozen=True)
class Distributions:
    """Next-token distributions of rows of logits [..., R, V]: log p = shifted - log_totals, p = weights / totals."""

    shifted: torch.Tensor  # [..., R, V]; each row's maximum is 0, so that exp cannot overflow
    weights: torch.Tensor  # [..., R, V]
    totals: torch.Tensor  # [..., R]
    log_totals: torch.Tensor  # [..., R]; - log p of the likeliest token

    def entropy_bits(self) -> torch.Tensor:
        """How undecided each row is: [..., R]."""
        nats: torch.Tensor = self.log_totals - torch.linalg.vecdot(self.weights, self.shifted) / self.totals
        return (nats / math.log(2)).clamp_min(0)

    def kl_to_final_bits(self) -> torch.Tensor:
        """KL(last of the R rows ‖ row) of rows that predict the same token: [..., R], exactly 0 for the last."""
        final_probabilities = self.weights[..., -1, :] / self.totals[..., -1:]
        cross_nats = self.log_totals - (self.shifted @ final_probabilities[..., None])[..., 0]  # - Σ p_L log p_k
        return ((cross_nats - cross_nats[..., -1:]) / math.log(2)).clamp_min(0)

    def logprob_nats(self, ids: torch.Tensor) -> torch.Tensor:
        """log p of one token a row, ids [..., R]: [..., R]."""
        return self.shifted.gather(-1, ids[..., None])[..., 0] - self.log_totals

    def probabilities(self, ids: torch.Tensor) -> torch.Tensor:
        """The probabilities of tokens, ids [..., R, N]: [..., R, N]."""
        return self.weights.gather(-1, ids) / self.totals[..., None]


def distributions(logits: torch.Tensor, likeliest: torch.Tensor) -> Distributions:
    """The distributions of logits, float32 [..., R, V], of which `likeliest` [..., R] are the largest."""
    shifted = logits - logits.gather(-1, likeliest[..., None])
    weights = shifted.exp()
    totals = weights.sum(-1)
    return Distributions(shifted, weights, totals, totals.log())


def measure(logits: torch.Tensor, *, final: bool, candidates: int, track: tuple[int, ...]) -> StepMeasures:
    """Measure one step's logits, float32 [R, V], the last layer's in the last row.

    `final` tells whether all rows predict the same next token, so that KL and rank against the last row mean
    something; `candidates` is K, `track` the N ids whose probabilities and ranks are wanted.
    """
    likeliest = top_candidates(logits, candidates)  # [R, K]
    rows = distributions(logits, likeliest[:, 0])
    kl_bits = rank = None
    if final:
        kl_bits = rows.kl_to_final_bits().cpu()
        rank = ranks(logits, likeliest[-1, :1])[:, 0].cpu()
    track_ids = torch.tensor(track, dtype=torch.long, device=logits.device)
    return StepMeasures(
        logprob_nats=-rows.log_totals.cpu(),
        entropy_bits=rows.entropy_bits().cpu(),
        kl_to_final_bits=kl_bits,
        final_token_rank=rank,
        candidate_ids=likeliest.cpu(),
        candidate_probabilities=rows.probabilities(likeliest).cpu(),
        tracked_probabilities=rows.probabilities(track_ids.expand(len(logits), -1)).cpu(),
        tracked_ranks=ranks(logits, track_ids).cpu(),
    )


def top_candidates(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The ids of the `count` largest logits of each row [R, V], largest first, lowest id first on ties: [R, count]."""
    count = min(count, logits.shape[1])
    values, ids = logits.topk(min(count + 1, logits.shape[1]))
    # topk promises no order among equals, within the count or at its edge: rows that have them are sorted in full.
    tied = (values[:, 1:] == values[:, :-1]).any(1).nonzero()[:, 0]
    ids = ids[:, :count]
    if len(tied):
        ids[tied] = logits[tied].sort(dim=1, descending=True, stable=True).indices[:, :count]
    return ids


def ranks(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The rank of each of the ids [N] in each row of logits [R, V], 1 for the likeliest: int64 [R, N]."""
    columns = []
    for token in ids.tolist():
        own = logits[:, token, None]  # [R, 1]
        columns.append(1 + (logits > own).sum(1) + (logits[:, :token] == own).sum(1))
    return torch.stack(columns, 1) if columns else logits.new_empty((len(logits), 0), dtype=torch.long)
