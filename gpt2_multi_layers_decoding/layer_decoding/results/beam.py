"""What a beam search is asked for and what it returns: frozen dataclasses of plain Python values, no torch."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from layer_decoding.errors import UsageError
from layer_decoding.layers import PLAIN_LENS

State = Literal["live", "finished", "dropped"]
_LARGEST, _SMALLEST = 1e30, 1e-5  # of length ** length_penalty: beyond them the library's float32 scores fail to rank


@dataclass(frozen=True)
class BeamSettings:
    """How to search. A hypothesis is ranked by the sum of its log-probabilities / length ** length_penalty."""

    max_new_tokens: int
    num_beams: int = 5
    num_return_sequences: int = 5
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0

    def check(self) -> None:
        """Raise UsageError, one sentence with the numbers, for settings that cannot be meant."""
        if self.num_beams < 1:
            raise UsageError(f"The number of beams is {self.num_beams}; it must be at least 1.")
        if self.num_return_sequences < 1:
            raise UsageError(f"The number of returned sequences is {self.num_return_sequences}; it must be at least 1.")
        if self.num_return_sequences > self.num_beams:
            raise UsageError(
                f"{self.num_return_sequences} sequences cannot be returned from {self.num_beams} beams; ask for at most"
                f" {self.num_beams}, or for more beams."
            )
        if self.no_repeat_ngram_size < 0:
            raise UsageError(f"The n-gram size is {self.no_repeat_ngram_size}; it must be 0 (no rule) or more.")
        if not math.isfinite(self.length_penalty):
            raise UsageError(f"The length penalty is {self.length_penalty}; it must be a finite number, such as 1.0.")
        decades = self.length_penalty * math.log10(max(self.max_new_tokens, 2))
        if not math.log10(_SMALLEST) <= decades <= math.log10(_LARGEST):
            low, high = (math.log10(bound) / math.log10(self.max_new_tokens) for bound in (_SMALLEST, _LARGEST))
            raise UsageError(
                f"With a length penalty of {self.length_penalty:g} the scores of {self.max_new_tokens} tokens leave the"
                f" range of float32; use one from {math.ceil(low * 10) / 10:g} to {math.floor(high * 10) / 10:g}."
            )

    def score(self, logprob_nats: float, length: int) -> float:
        """The length-normalised score, as the library ranks by it."""
        return float(logprob_nats / length**self.length_penalty)

    def steps(self, other_layers: int = 0) -> int:
        """How many steps the searches of a run may take: its own, greedy, those on other layers, one without rule."""
        one_beam, rule = self.num_beams == 1, self.no_repeat_ngram_size > 0
        each = 2 if rule or not one_beam else 1  # the search itself, and greedy decoding where it is another
        return (each * (1 + other_layers) + (rule and not one_beam)) * self.max_new_tokens

    def as_greedy(self) -> "BeamSettings":
        """The same number of tokens, each the likeliest, without any rule."""
        return BeamSettings(self.max_new_tokens, num_beams=1, num_return_sequences=1)

    def without_rule(self) -> "BeamSettings":
        """The same search for its best text alone, free to repeat n-grams."""
        return replace(self, num_return_sequences=1, no_repeat_ngram_size=0)


@dataclass(frozen=True)
class ScoredText:
    """A text that a model wrote and how likely it finds each token: `ids` and `token_logprob_nats` are [T].

    `ids` includes the end-of-text that ended it, if one did (`finished`).
    """

    ids: tuple[int, ...]
    token_logprob_nats: tuple[float, ...]
    finished: bool

    @property
    def logprob_nats(self) -> float:
        """The log-probability of the whole text: the sum over its tokens."""
        return math.fsum(self.token_logprob_nats)


@dataclass(frozen=True)
class Hypothesis(ScoredText):
    """One of the texts a beam search returns: rank 1 is the best by score."""

    rank: int
    score: float


@dataclass(frozen=True)
class TraceBeam:
    """A candidate of one step: its text so far, its running sum, and what became of it.

    `parent` counts the live beams of the step before from 0, in the order they are listed there; in step 1 it is 0,
    the prompt. "finished" ended in end-of-text among the first `num_beams`; "live" goes on, or was there at the end.
    """

    ids: tuple[int, ...]
    logprob_nats: float
    parent: int
    state: State


@dataclass(frozen=True)
class TraceStep:
    """The candidates of one step, counted from 1, likeliest first."""

    step: int
    beams: tuple[TraceBeam, ...]

    @property
    def live(self) -> tuple[TraceBeam, ...]:
        """The beams that the next step starts from."""
        return tuple(beam for beam in self.beams if beam.state == "live")


@dataclass(frozen=True)
class LayerSearch:
    """The same search on the model cut off after a layer, and that model's greedy text."""

    layer: int
    greedy: ScoredText
    hypotheses: tuple[Hypothesis, ...]


@dataclass(frozen=True)
class BeamSearch:
    """All that was found; what was not asked for, or not reached before an interruption, is empty or None.

    `unrestricted` is the best hypothesis of the same search without its n-gram rule. `layers` ascend, the last
    layer's (the model itself) among them. `interrupted`: the main search was, and its hypotheses are what it had.
    """

    layer_count: int
    prompt_ids: tuple[int, ...]
    settings: BeamSettings
    hypotheses: tuple[Hypothesis, ...] = ()
    greedy: ScoredText | None = None
    unrestricted: Hypothesis | None = None
    layers: tuple[LayerSearch, ...] = ()
    trace: tuple[TraceStep, ...] | None = None
    interrupted: bool = False
    lens: str = PLAIN_LENS  # what the layers were read with
