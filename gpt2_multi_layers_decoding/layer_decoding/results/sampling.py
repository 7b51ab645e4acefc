"""What sampling returns: texts, the settings they were drawn with, and distributions. Plain Python values, no torch."""

import math
from dataclasses import dataclass
from statistics import fmean

from layer_decoding.layers import PLAIN_LENS
from layer_decoding.results.settings import Setting

NUCLEUS_SHARE = 0.9


@dataclass(frozen=True)
class Sample:
    """One text drawn from a model: every list has one entry a generated token (T).

    `ids` includes the end-of-text that ended it, if one did (`finished`). Log-probabilities and entropies are the
    untouched model's. `kept_counts` tells how many tokens could be drawn at each step, `nucleus_sizes` the fewest
    that held NUCLEUS_SHARE of what was drawn from.
    """

    index: int
    ids: tuple[int, ...]
    finished: bool
    token_logprob_nats: tuple[float, ...]
    entropy_bits: tuple[float, ...]
    kept_counts: tuple[int, ...]
    nucleus_sizes: tuple[int, ...]

    @property
    def logprob_nats(self) -> float:
        """The log-probability of the whole text under the untouched model: the sum over its tokens."""
        return math.fsum(self.token_logprob_nats)

    @property
    def mean_entropy_bits(self) -> float:
        """How undecided the untouched model was along this text, a token."""
        return fmean(self.entropy_bits)

    @property
    def distinct_tokens(self) -> int:
        """How many different tokens the text is made of."""
        return len(set(self.ids))

    @property
    def repeated_trigram_share(self) -> float | None:
        """The share of the text's T - 2 windows of three tokens that equal an earlier window of it.

        1 - distinct / all: 0 where nothing comes twice. None for a text of fewer than three tokens.
        """
        windows = list(zip(self.ids, self.ids[1:], self.ids[2:], strict=False))
        return 1 - len(set(windows)) / len(windows) if windows else None


@dataclass(frozen=True)
class Sampling:
    """The samples of one setting. Sample i threw the dice of (seed, i), whatever the setting."""

    setting: Setting
    seed: int
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class TokenShare:
    """A token's place in the model's ranking (1 the likeliest), and its probability before and after a setting."""

    rank: int
    id: int
    before: float
    after: float


@dataclass(frozen=True)
class Distribution:
    """What one setting makes of the next-token distribution after the prompt.

    `shares` are the likeliest tokens and those around the cut, by rank. `kept_count` tokens can be drawn;
    `kept_probability` is what the untouched model gives them together.
    """

    setting: Setting
    vocabulary: int
    kept_count: int
    kept_probability: float
    shares: tuple[TokenShare, ...]


@dataclass(frozen=True)
class Curves:
    """What a figure shows of the next-token distribution: `probabilities` are all V, ranked, the untouched model's.

    `tempered` holds those of the likeliest tokens, `top_ids`, at each temperature.
    """

    top_ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    tempered: tuple[tuple[float, tuple[float, ...]], ...]
    top_ks: tuple[int, ...]
    top_ps: tuple[float, ...]


@dataclass(frozen=True)
class ModelSamples:
    """All that was drawn from one model, the whole one or one cut off after `layer`; greedy is the yardstick.

    `distributions`, if asked for, are those after the prompt, greedy's first.
    """

    layer: int
    greedy: Sample
    samplings: tuple[Sampling, ...]
    distributions: tuple[Distribution, ...] = ()


@dataclass(frozen=True)
class SamplingRun:
    """A run of the sampling script: the same settings and dice on the whole model, and on those of `layers`.

    `layers` ascend and end with the whole model's where any were asked for; else there are none.
    """

    layer_count: int
    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    seed: int
    model: ModelSamples
    layers: tuple[ModelSamples, ...] = ()
    lens: str = PLAIN_LENS  # what the layers were read with


class SamplingListener:
    """Told of a run of several settings as it goes; this one does not care."""

    def on_start(self) -> None:
        """The prompt has been read, and nothing stands in the way."""

    def on_model(self, layer: int) -> None:
        """A model comes next: the one cut off after a layer, or the whole one."""

    def on_step(self, step: int, newest: dict[int, int]) -> None:
        """A step of a setting's samples, from 1."""

    def on_samples(self, sampling: Sampling) -> None:
        """All samples of a setting, or after Ctrl-C what there is of them; a model's greedy text comes first."""

    def on_done(self, model: ModelSamples) -> None:
        """All that was drawn from a model."""
