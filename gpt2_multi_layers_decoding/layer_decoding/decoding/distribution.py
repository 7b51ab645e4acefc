"""From logits to a token: transformers' own filters, the inverse of the ranked CDF, and what each setting leaves.

Tokens lie along the unit interval from the likeliest to the least likely, each as long as its probability after
temperature and filters; a uniform number picks the one it falls on. A filter cuts off the far end and a lower
temperature moves mass to the near one, so the same number never picks a less likely token under a tighter setting.

Everything here is in float64: a float32 sum over 50,000 tokens is off by more than rare ones weigh. It is computed on
the CPU, where a row's sums come out the same alone and among others only if it is drawn alone; on a CUDA device all
rows are drawn there in one go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch

from layer_decoding.lens.finite import check_finite
from layer_decoding.results.sampling import NUCLEUS_SHARE, Curves, Distribution, TokenShare
from layer_decoding.results.settings import Setting

_NUMBERS_AT_ONCE = 2**23  # of logits: in float64, and with what is made of them, half a gigabyte


@dataclass(frozen=True)
class Draws:
    """One step's tokens and numbers, a row each: [R] all of them."""

    ids: torch.Tensor
    logprob_nats: torch.Tensor
    entropy_bits: torch.Tensor
    kept_counts: torch.Tensor
    nucleus_sizes: torch.Tensor


def draws_in_place(device: torch.device) -> bool:
    """Whether rows are drawn where their logits are, rather than one after the other on the CPU."""
    return device.type == "cuda"  # Apple's GPU knows no float64


def rows_at_once(logits: torch.Tensor) -> int:
    """How many rows of logits [R, V] to draw in one go."""
    return max(1, _NUMBERS_AT_ONCE // logits.shape[1]) if draws_in_place(logits.device) else 1


def draw(logits: torch.Tensor, setting: Setting, uniforms: Sequence[float]) -> Draws:
    """Draw a token from each row of logits, float32 [R, V], by one uniform number from [0, 1) a row.

    Raises:
        LayerDecodingError: logits that are not finite.
    """
    logits = logits.float()
    if draws_in_place(logits.device):
        ranked, ids = rank_with_ids(logits)  # [R, V]
    else:
        logits = logits.cpu()
        ranked, ids = rank(logits), None
    probabilities = drawn_from(ranked, setting)
    cumulative = probabilities.cumsum(1)
    totals = cumulative[:, -1:]
    kept_counts = (probabilities > 0).sum(1)
    targets = torch.tensor(uniforms, dtype=torch.float64, device=ranked.device)[:, None] * totals
    # A product that reached the total would point past the last token that can be drawn.
    places = torch.searchsorted(cumulative, targets, right=True).clamp_max(kept_counts[:, None] - 1)  # [R, 1]
    nucleus = torch.searchsorted(cumulative, NUCLEUS_SHARE * totals)[:, 0] + 1

    logp = log_probabilities(ranked)
    entropy_nats = torch.special.entr(logp.exp()).sum(1)
    return Draws(
        ids=_tokens_at(logits, ranked, places) if ids is None else ids.gather(1, places)[:, 0],
        logprob_nats=logp.gather(1, places)[:, 0],
        entropy_bits=entropy_nats / log(2),
        kept_counts=kept_counts,
        nucleus_sizes=torch.minimum(nucleus, kept_counts),
    )


def rank(logits: torch.Tensor) -> torch.Tensor:
    """Each row of float32 logits [R, V] from the largest down, in float64.

    Values only: numpy sorts those fifty times faster than torch sorts values and ids, and ids are wanted of one a row.
    """
    ranked = torch.from_numpy(-np.sort(-logits.numpy(), axis=1))
    # What is no number is sorted to the end; minus infinity is a token that cannot come.
    check_finite(ranked[:, 0], ranked[:, -1].clamp_min(0))
    return ranked.double()


def rank_with_ids(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`rank`, and the ids [R, V] as ranked, equal logits by ascending id: where sorting both costs no more."""
    ranked, ids = logits.sort(dim=1, descending=True, stable=True)
    check_finite(ranked[:, 0], ranked[:, -1].clamp_min(0))  # a NaN comes first here
    return ranked.double(), ids


def log_probabilities(ranked: torch.Tensor) -> torch.Tensor:
    """The untouched model's, in nats: [R, V] as ranked."""
    return ranked.log_softmax(1)


def drawn_from(ranked: torch.Tensor, setting: Setting) -> torch.Tensor:
    """The probabilities that a setting draws with: float64 [R, V], ranked like the logits it is given."""
    if setting.is_greedy:  # the first of the largest, where the library's top-k would keep all that are as large
        return torch.zeros_like(ranked).index_fill_(1, torch.tensor(0, device=ranked.device), 1.0)
    scores = ranked - ranked[:, :1]  # the largest is 0, so that no temperature makes it overflow
    for warper in warpers(setting):
        scores = warper(None, scores)
    return scores.softmax(1)


def warpers(setting: Setting) -> list[Any]:
    """transformers' logits warpers for a setting that is not greedy, in the library's order, none for what is off."""
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    chosen: list[Any] = []
    if setting.temperature != 1:
        chosen.append(TemperatureLogitsWarper(float(setting.temperature)))
    if setting.top_k > 0:
        chosen.append(TopKLogitsWarper(setting.top_k))
    if setting.top_p < 1:
        chosen.append(TopPLogitsWarper(setting.top_p))
    if setting.min_p > 0:
        chosen.append(MinPLogitsWarper(setting.min_p))
    return chosen


def _tokens_at(logits: torch.Tensor, ranked: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The ids at places [R, 1] of the ranking, equal logits ranked by ascending id: [R]."""
    values = ranked.gather(1, places)
    earlier_equals = places - (ranked > values).sum(1, keepdim=True)
    tokens = [
        (row == value).nonzero()[nth, 0]
        for row, value, nth in zip(logits, values[:, 0].float(), earlier_equals[:, 0], strict=True)
    ]
    return torch.stack(tokens)


TOP, BELOW_THE_CUT = 10, 2  # tokens shown of each panel: the likeliest, and the first that are cut off
CURVE_TOKENS = 20  # at each temperature


def next_distribution(logits: torch.Tensor, setting: Setting) -> Distribution:
    """What a setting draws from, given logits float32 [1, V]: the likeliest tokens and those around its cut."""
    logits = logits.float().cpu()
    ranked, ids = rank(logits), logits.sort(dim=1, descending=True, stable=True).indices[0].tolist()
    before, after = log_probabilities(ranked).exp()[0], drawn_from(ranked, setting)[0]
    kept = int((after > 0).sum())
    vocabulary = len(ids)
    ranks: Sequence[int] = range(1, min(TOP, vocabulary) + 1)
    if setting.filters and kept < vocabulary:
        around = range(kept, min(kept + BELOW_THE_CUT, vocabulary) + 1)
        ranks = sorted({*(number for number in ranks if number <= kept), *around})
    shares = tuple(TokenShare(n, ids[n - 1], float(before[n - 1]), float(after[n - 1])) for n in ranks)
    return Distribution(setting, vocabulary, kept, float(before[:kept].sum()), shares)


def curves(logits: torch.Tensor, settings: Sequence[Setting]) -> Curves:
    """What a figure draws of logits float32 [1, V]: the ranked probabilities, and the likeliest at each temperature."""
    logits = logits.float().cpu()
    ranked, ids = rank(logits), logits.sort(dim=1, descending=True, stable=True).indices[0, :CURVE_TOKENS]
    temperatures = sorted({setting.temperature for setting in settings if setting.temperature > 0} | {1.0})
    tempered = [drawn_from(ranked, Setting(temperature))[0, :CURVE_TOKENS].tolist() for temperature in temperatures]
    return Curves(
        top_ids=tuple(ids.tolist()),
        probabilities=tuple(log_probabilities(ranked).exp()[0].tolist()),
        tempered=tuple(zip(temperatures, map(tuple, tempered), strict=True)),
        top_ks=tuple(sorted({setting.top_k for setting in settings if setting.top_k > 0})),
        top_ps=tuple(sorted({setting.top_p for setting in settings if setting.top_p < 1})),
    )
