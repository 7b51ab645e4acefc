"""What samples are drawn with: temperature and the three filters, checked in one place, and how settings combine.

A setting's neutral values are off: temperature 1, top-k 0, top-p 1 and min-p 0 together are pure sampling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from layer_decoding.errors import UsageError

MAX_RUNS = 100  # settings × models; more blocks than that nobody reads


@dataclass(frozen=True)
class Setting:
    """Temperature 0 is greedy; top-k 0, top-p 1 and min-p 0 filter nothing out.

    Raises:
        UsageError: a value that cannot be meant.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise UsageError(f"The temperature is {self.temperature:g}; give 0 (greedy) or a finite number above it.")
        if self.top_k < 0:
            raise UsageError(f"Top-k is {self.top_k}; give 0 (off) or how many tokens to keep.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"Top-p is {self.top_p:g}; give a share above 0, at most 1 (off).")
        if not 0 <= self.min_p < 1:
            raise UsageError(f"Min-p is {self.min_p:g}; give 0 (off) or a share below 1.")

    @property
    def is_greedy(self) -> bool:
        """Whether only the likeliest token can be drawn, whatever the dice say."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def filters(self) -> bool:
        """Whether tokens are cut off, greedy's all but one included."""
        return self.is_greedy or self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    @property
    def label(self) -> str:
        """The setting in words, without what is off.

        >>> Setting(0.7, top_p=0.9).label
        'temperature 0.7, top-p 0.9'
        """
        parts = [] if self.temperature == 1 else [f"temperature {plain(self.temperature)}"]
        parts += [f"top-k {self.top_k}"] * (self.top_k > 0)
        parts += [f"top-p {plain(self.top_p)}"] * (self.top_p < 1)
        parts += [f"min-p {plain(self.min_p)}"] * (self.min_p > 0)
        return ", ".join(parts or ["temperature 1"])


GREEDY = Setting(temperature=0.0)
DEFAULT_SETTINGS = (
    Setting(temperature=0.5),
    Setting(),
    Setting(temperature=2.0),
    Setting(top_k=50),
    Setting(top_p=0.9),
)


def combinations(
    temperatures: Sequence[float], top_ks: Sequence[int], top_ps: Sequence[float], min_ps: Sequence[float]
) -> tuple[Setting, ...]:
    """Every combination of the values given, each once; an empty list stands for its neutral value.

    Raises:
        UsageError: more combinations than one run shows.
    """
    neutral = Setting()
    ts = list(dict.fromkeys(temperatures)) or [neutral.temperature]
    ks = list(dict.fromkeys(top_ks)) or [neutral.top_k]
    ps = list(dict.fromkeys(top_ps)) or [neutral.top_p]
    ms = list(dict.fromkeys(min_ps)) or [neutral.min_p]
    check_runs(len(ts) * len(ks) * len(ps) * len(ms))
    return tuple(Setting(t, k, p, m) for t, k, p, m in product(ts, ks, ps, ms))


def check_runs(settings: int, models: int = 1) -> None:
    """Refuse more runs than MAX_RUNS, a run being one setting on one model."""
    runs = settings * models
    if runs <= MAX_RUNS:
        return
    if models == 1:
        raise UsageError(f"These values combine to {runs:,} runs; give fewer, for at most {MAX_RUNS} runs.")
    raise UsageError(
        f"{settings:,} settings on {models} models make {runs:,} runs; "
        f"give fewer values or fewer layers, for at most {MAX_RUNS} runs.",
        settings=["layers"],
    )


def top_k_notice(settings: Sequence[Setting], vocabulary: int) -> list[str]:
    """A sentence where a top-k is more than there are tokens, which is as good as off."""
    beyond = sorted({setting.top_k for setting in settings if setting.top_k > vocabulary})
    which = ", ".join(f"{top_k:,}" for top_k in beyond)
    return [f"Top-k {which} cuts nothing off: the vocabulary has {vocabulary:,} tokens."] if beyond else []


def plain(number: float) -> str:
    """A number as a person would type it, nothing of it lost: 0.5, 2, 1e-07."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
