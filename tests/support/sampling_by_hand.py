"""What sampling is measured against: the filters and the draw as plain arithmetic on Python floats."""

import math

import torch

from layer_decoding.results.settings import Setting

LAST_UNIFORM = math.nextafter(1, 0)
SETTINGS = [Setting(), Setting(0.5), Setting(2.0), Setting(top_k=5), Setting(top_p=0.7), Setting(1.3, 20, 0.9, 0.02)]


def random_logits(seed, rows=1, vocabulary=40):
    """Logits as a model gives them: some likely, most not."""
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def by_hand(logits, setting):
    """[(id, probability)] of the tokens that can be drawn, likeliest first: plain arithmetic on Python floats.

    Temperature, then top-k, then top-p on what is left, then min-p on what is left of that.
    """
    ids = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    if setting.is_greedy:
        return [(ids[0], 1.0)]
    top = float(logits[ids[0]])
    weights = {i: math.exp((float(logits[i]) - top) / setting.temperature) for i in ids}
    if setting.top_k:
        ids = [i for i in ids if logits[i] >= logits[ids[min(setting.top_k, len(ids)) - 1]]]
    total = math.fsum(weights[i] for i in ids)
    above, kept = 0.0, []
    for i in ids:
        if above < setting.top_p or setting.top_p == 1:
            kept.append(i)
        above += weights[i] / total
    kept = [i for i in kept if weights[i] >= setting.min_p * weights[kept[0]]]
    total = math.fsum(weights[i] for i in kept)
    return [(i, weights[i] / total) for i in kept if weights[i] > 0]


def pick(shares, uniform):
    """The id that a uniform number falls on."""
    reached = 0.0
    for token, probability in shares:
        reached += probability
        if uniform < reached:
            return token
    return shares[-1][0]
