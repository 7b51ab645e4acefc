"""The next-token distribution after a prompt: what each setting makes of it, and the curves that a figure draws."""

from collections.abc import Sequence

import torch

from layer_decoding.drawing import drawn_from, log_probabilities, rank
from layer_decoding.sampling_results import Curves, Distribution, TokenShare
from layer_decoding.sampling_settings import Setting

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
