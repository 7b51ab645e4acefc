"""A beam search as it goes: watched from inside `generate`, without a part in it.

After every step transformers hands each stopping criterion all candidates, `max(2, 1 + end tokens) × num_beams` of
them, likeliest first: everything but their scores. Those come from a logits processor that changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from layer_decoding.errors import UsageError
from layer_decoding.lens.finite import check_finite
from layer_decoding.results.beam import BeamSettings, Hypothesis, State, TraceBeam, TraceStep

if TYPE_CHECKING:
    from collections.abc import Iterable


OnStep = Callable[[int], None]
Ids = tuple[int, ...]


class SearchRecord:
    """The live beams of the newest step, the texts that have ended, and (if `keep_steps`) every step's candidates."""

    def __init__(
        self,
        prompt_length: int,
        settings: BeamSettings,
        ends: "Iterable[int]",
        *,
        keep_steps: bool = False,
        on_step: OnStep | None = None,
    ) -> None:
        self.prompt_length, self.settings, self.ends = prompt_length, settings, frozenset(ends)
        self.keep_steps = keep_steps and settings.num_beams > 1
        self.on_step = on_step
        self.live: list[Ids] = [()]
        self.finished: list[Ids] = []
        self.steps: list[TraceStep] = []
        self._candidates: list[Ids] = [()]  # of the newest step, each once
        self._sums: dict[Ids, float] = {(): 0.0}  # of the newest step's candidates
        self._rows: dict[Ids, int] = {}  # live beam -> its row in the newest log-probabilities
        self._logprobs = torch.empty(0)  # [num_beams, V], those of the step under way

    def hooks(self) -> dict[str, Any]:
        """What to pass to `generate`."""
        return {"stopping_criteria": [_Watcher(self)], "logits_processor": [_Reader(self)]}

    def read(self, beams: list[list[int]], logprobs: torch.Tensor) -> None:
        """Take the live beams [num_beams][P + step - 1] and the log-probabilities of what may follow each."""
        self._check(logprobs.amax(1))
        rows = [tuple(beam[self.prompt_length :]) for beam in beams]
        self._settle(frozenset(rows))
        self._rows = {ids: row for row, ids in reversed(list(enumerate(rows)))}
        self._logprobs = logprobs

    def take(self, candidates: list[list[int]]) -> None:
        """Take a step's candidates [2 × num_beams or more][P + step] and tell which live, finish and drop out."""
        texts = [tuple(candidate[self.prompt_length :]) for candidate in candidates]
        # With fewer tokens than beams the library fills up with copies and with texts that go on behind their end.
        states = dict(reversed(list(zip(texts, self._states(texts), strict=True))))
        step = len(texts[0])
        texts = [text for text in dict.fromkeys(texts) if not goes_on(text, self.ends)]
        if self.keep_steps:
            self._keep(step, texts, states)
        self.finished += [text for text in texts if states[text] == "finished"]
        self.live = [text for text in texts if states[text] == "live"]
        self._candidates = texts
        if self.on_step is not None:
            self.on_step(step)

    def _states(self, texts: Sequence[Ids]) -> list[State]:
        """An end-of-text among the first k is finished, one below is dropped; the next k others live on.

        In the last step nothing lives on, and what can be returned are the first k.
        """
        k = self.settings.num_beams
        is_last = len(texts[0]) == self.settings.max_new_tokens
        states: list[State] = []
        for position, text in enumerate(texts):
            if self._ended(text):
                states.append("finished" if position < k else "dropped")
            else:
                lives = position < k if is_last else states.count("live") < k
                states.append("live" if lives else "dropped")
        return states

    def _ended(self, text: Ids) -> bool:
        return bool(text) and text[-1] in self.ends

    def _keep(self, step: int, texts: Sequence[Ids], states: dict[Ids, State]) -> None:
        """Add a step: running sums and parents of all candidates that the rules allow."""
        parents = [self._rows[text[:-1]] for text in texts]
        logprobs = self._logprobs[parents, [text[-1] for text in texts]].tolist()
        sums = {text: self._sums[text[:-1]] + logprob for text, logprob in zip(texts, logprobs, strict=True)}
        beams = [
            TraceBeam(text, sums[text], self.live.index(text[:-1]), states[text])
            for text in texts
            if sums[text] > float("-inf")
        ]
        self.steps.append(TraceStep(step, tuple(beams)))
        self._sums = sums

    def _settle(self, going_on: frozenset[Ids]) -> None:
        """Let those live that the library goes on with: among equals it chooses as it likes."""
        live = [text for text in self._candidates if text in going_on and not self._ended(text)]
        if live != self.live and self.keep_steps:
            *before, newest = self.steps
            beams = tuple(
                beam if beam.state == "finished" else replace(beam, state="live" if beam.ids in live else "dropped")
                for beam in newest.beams
            )
            self.steps = [*before, replace(newest, beams=beams)]
        self.live = live

    def _check(self, largest: torch.Tensor) -> None:
        """Look at the largest log-probability of each beam [num_beams]: minus infinity is what the rule leaves."""
        check_finite(largest.clamp_min(0))
        if self.settings.num_beams == 1 and largest.isneginf().any():
            raise nothing_left(self.settings)


class _Watcher(StoppingCriteria):
    """Shows a record every step's candidates and stops nothing."""

    def __init__(self, record: SearchRecord) -> None:
        self.record = record

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:  # noqa: ARG002
        self.record.take(input_ids.tolist())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


class _Reader(LogitsProcessor):
    """Shows a record every step's log-probabilities and changes none. It comes after the n-gram rule."""

    def __init__(self, record: SearchRecord) -> None:
        self.record = record

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.record.read(input_ids.tolist(), scores)
        return scores


def goes_on(text: Ids, ends: frozenset[int]) -> bool:
    """Whether a text goes on behind a token that ends it."""
    return not ends.isdisjoint(text[:-1])


def nothing_left(settings: BeamSettings) -> UsageError:
    """The refusal of an n-gram rule that forbids every token."""
    return UsageError(
        f"No {settings.max_new_tokens} tokens can follow without repeating {settings.no_repeat_ngram_size} in a row; "
        "ask for fewer tokens, or forbid only longer repetitions.",
        settings=("max_new_tokens", "no_repeat_ngram_size"),
    )


def trace_of_one_beam(hypothesis: Hypothesis) -> tuple[TraceStep, ...]:
    """The steps of a search with a single beam, which is greedy decoding: nothing ever branches."""
    steps, total = [], 0.0
    for step, logprob in enumerate(hypothesis.token_logprob_nats, 1):
        total += logprob
        ends = hypothesis.finished and step == len(hypothesis.ids)
        beam = TraceBeam(hypothesis.ids[:step], total, 0, "finished" if ends else "live")
        steps.append(TraceStep(step, (beam,)))
    return tuple(steps)
