"""Beam search by transformers' own `generate`, scored again by a plain forward pass, with greedy decoding beside it.

score = Σ log p / length ** length_penalty        over the generated tokens, end-of-text included
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.decoding.beam_watcher import SearchRecord, goes_on, nothing_left, trace_of_one_beam
from layer_decoding.decoding.scoring import texts_logprobs
from layer_decoding.decoding.watching import OnStep
from layer_decoding.errors import Interrupted, UsageError, is_out_of_memory
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.lens.cache import NOT_READ_ON, check_copyable, refusing
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.quick import with_quick_twins
from layer_decoding.lens.truncation import truncate
from layer_decoding.models.devices import device_of
from layer_decoding.models.generation import end_ids, neutral_generation
from layer_decoding.models.sizes import (
    cache_error,
    check_ids,
    check_lengths,
    check_memory,
    layer_count,
    select_cuts,
    vocabulary_size,
)
from layer_decoding.results.beam import BeamSearch, BeamSettings, Hypothesis, LayerSearch, ScoredText, TraceStep

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache


Ids = tuple[int, ...]


def beam_search(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    num_beams: int = 5,
    num_return_sequences: int | None = None,
    length_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    layers: Sequence[int] | None = (),
    trace: bool = False,
    on_step: OnStep | None = None,
    lens: FittedLens | None = None,
) -> BeamSearch:
    """The best continuations that beam search finds, with their scores, and the greedy one beside them.

    Args:
        prompt_ids: P token ids, at least one.
        num_return_sequences: how many of the beams to return, None for all.
        length_penalty: above 0 favours long texts, below 0 short ones; 0 ranks by the sum alone.
        no_repeat_ngram_size: n above 0 forbids any n tokens in a row to come twice, those of the prompt included;
            the best text without that rule is then found too.
        layers: block numbers to search on as well, the model cut off after each; None for 1 … L. Where any is asked
            for, the last is among them.
        trace: keep every step's candidates.
        on_step: called as on_step(step, {}) after every step of every search, counted together: `BeamSettings.steps`.
        lens: one that was fitted to the model, whose map stands behind the block where it is cut; None for the plain
            one.

    Raises:
        UsageError: settings, lengths, layers or ids out of range, or a rule that leaves no text.
        LayerDecodingError: not enough memory; or a model that cannot be cut.
        Interrupted: Ctrl-C; carries what was found.
    """
    prompt = list(prompt_ids)
    returned = num_beams if num_return_sequences is None else num_return_sequences
    settings = BeamSettings(max_new_tokens, num_beams, returned, length_penalty, no_repeat_ngram_size)
    settings.check()
    check_copyable(model)
    check_lengths(model, prompt, max_new_tokens)
    check_ids(model, prompt)
    _check_candidates(model, num_beams)
    count = layer_count(model)
    shown = select_cuts(layers, count) if layers is None or layers else []
    context = len(prompt) + max_new_tokens
    check_memory(model, num_beams, context)
    searcher = _Searcher(model, prompt, settings, trace=trace, on_step=on_step, lens=lens)
    result = BeamSearch(count, tuple(prompt), settings, lens=PLAIN_LENS if lens is None else lens.name)
    try:
        result = searcher.main(model, result)
        if no_repeat_ngram_size:
            result = replace(result, unrestricted=searcher.unrestricted(model, result))
        for layer in shown:
            result = replace(result, layers=(*result.layers, searcher.layer(model, layer, result)))
    except KeyboardInterrupt:
        if not result.hypotheses:
            result = searcher.so_far(model, result)
        raise Interrupted(result if result.hypotheses else None) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise cache_error(model, num_beams, context) from error
        raise
    return result


def _check_candidates(model: "PreTrainedModel", num_beams: int) -> None:
    """Refuse a vocabulary of fewer tokens than the library looks at after each beam."""
    ends, vocabulary = len(end_ids(model)), vocabulary_size(model)
    if num_beams > 1 and vocabulary < max(2, 1 + ends):
        raise UsageError(
            f"Beam search wants {max(2, 1 + ends)} tokens to choose from after each beam, one more than end a text, and"
            f" the vocabulary has {vocabulary}; use one beam.",
            settings=("num_beams",),
        )


class _Searcher:
    """The searches of one run, each with the same prompt; counts their steps."""

    def __init__(
        self,
        model: "PreTrainedModel",
        prompt: list[int],
        settings: BeamSettings,
        *,
        trace: bool,
        on_step: OnStep | None,
        lens: FittedLens | None,
    ) -> None:
        self.prompt, self.settings, self.trace = prompt, settings, trace
        self.on_step, self.lens = on_step, lens
        self.before = 0  # steps of the searches that are done
        ends = end_ids(model)
        self.record = SearchRecord(len(prompt), settings, ends, keep_steps=trace, on_step=self._count)
        self.texts: list[Ids] = []  # of the main search, once it is done
        self.cache: DynamicCache | None = None  # of the newest search, which has read the prompt

    def main(self, model: "PreTrainedModel", result: BeamSearch) -> BeamSearch:
        """The search that was asked for, and greedy decoding beside it."""
        self.texts = self._search(model, self.settings, self.record)
        hypotheses, greedy = self._with_greedy(model, self.texts)
        return replace(result, hypotheses=hypotheses, greedy=greedy, trace=self._steps(hypotheses))

    def so_far(self, model: "PreTrainedModel", result: BeamSearch) -> BeamSearch:
        """What was found when greedy decoding or the main search itself was interrupted.

        Of the search itself: the texts that had ended and the beams that lived, best first.
        """
        if not self.texts and self.record.live == [()]:
            return result
        texts = self.texts or [*self.record.finished, *self.record.live]
        hypotheses = _hypotheses(self._score(model, texts), self.settings)
        if not self.texts:
            hypotheses = hypotheses[: self.settings.num_return_sequences]
        return replace(result, hypotheses=hypotheses, trace=self._steps(hypotheses), interrupted=not self.texts)

    def _steps(self, hypotheses: Sequence[Hypothesis]) -> tuple[TraceStep, ...] | None:
        """The main search step by step, if that was asked for."""
        if not self.trace:
            return None
        return tuple(self.record.steps) if self.settings.num_beams > 1 else trace_of_one_beam(hypotheses[0])

    def _with_greedy(self, model: "PreTrainedModel", texts: list[Ids]) -> tuple[tuple[Hypothesis, ...], ScoredText]:
        """The texts found and the model's greedy one, all scored in one pass. One beam without a rule is greedy."""
        is_greedy = self.settings.num_beams == 1 and not self.settings.no_repeat_ngram_size
        greedy = texts[0] if is_greedy else self._search(model, self.settings.as_greedy())[0]
        *found, last = self._score(model, [*texts, greedy])
        return _hypotheses(found, self.settings), last

    def unrestricted(self, model: "PreTrainedModel", result: BeamSearch) -> Hypothesis:
        """The best text without the n-gram rule; for one beam that is the greedy one."""
        settings = self.settings.without_rule()
        if settings.num_beams == 1 and result.greedy is not None:
            text = result.greedy
        else:
            text = self._score(model, self._search(model, settings))[0]
        return _hypotheses([text], settings)[0]

    def layer(self, model: "PreTrainedModel", layer: int, result: BeamSearch) -> LayerSearch:
        """The same search on the model cut off after a layer; the last layer's is already done."""
        if layer == result.layer_count and result.greedy is not None:
            return LayerSearch(layer, result.greedy, result.hypotheses)
        cut = truncate(model, layer, self.lens)
        hypotheses, greedy = self._with_greedy(cut, self._search(cut, self.settings))
        return LayerSearch(layer, greedy, hypotheses)

    def _search(
        self, model: "PreTrainedModel", settings: BeamSettings, record: SearchRecord | None = None
    ) -> list[Ids]:
        """Generated ids of the texts found, best first, as the library returns them."""
        record = record or SearchRecord(len(self.prompt), settings, end_ids(model), on_step=self._count)
        texts, self.cache = generate_texts(with_quick_twins(model), self.prompt, settings, record)
        self.before += settings.max_new_tokens
        return texts

    def _count(self, step: int) -> None:
        if self.on_step is not None:
            self.on_step(self.before + step, {})

    def _score(self, model: "PreTrainedModel", texts: list[Ids]) -> list[ScoredText]:
        """Texts with the log-probability of each token, recomputed by one plain forward pass.

        The model is the one of the newest search, whose reading of the prompt is used.
        """
        ends = end_ids(model)
        cache, self.cache = self.cache, None
        with refusing(model, NOT_READ_ON):
            logprobs = texts_logprobs(model, self.prompt, texts, cache)
        return [
            ScoredText(ids, tuple(nats), finished=ids[-1] in ends) for ids, nats in zip(texts, logprobs, strict=True)
        ]


def generate_texts(
    model: "PreTrainedModel", prompt: list[int], settings: BeamSettings, record: SearchRecord
) -> tuple[list[Ids], "DynamicCache | None"]:
    """transformers' own search: the generated ids of up to `num_return_sequences` texts, best first, and its cache.

    Raises:
        UsageError: the n-gram rule leaves no text of that many tokens.
    """
    input_ids = torch.tensor([prompt], device=device_of(model))
    options: dict[str, Any] = {"no_repeat_ngram_size": settings.no_repeat_ngram_size}
    if settings.num_beams > 1:
        options["num_return_sequences"] = settings.num_return_sequences
        options["length_penalty"] = settings.length_penalty
    generate: Any = model.generate
    with neutral_generation(model):
        answer = generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            num_beams=settings.num_beams,
            use_cache=layer_count(model) > 0,
            return_dict_in_generate=True,
            **options,
            **record.hooks(),
        )
    rows = answer.sequences[:, len(prompt) :].tolist()
    if settings.num_beams == 1:
        return [tuple(rows[0])], answer.past_key_values
    # Texts that ended early are padded. Where rules or a small vocabulary leave fewer texts than beams, the library
    # fills up with copies and with texts that were abandoned on the way.
    lengths = (answer.beam_indices >= 0).sum(1).tolist()
    found = dict.fromkeys(tuple(row[:length]) for row, length in zip(rows, lengths, strict=True) if length)
    ends = frozenset(end_ids(model))
    whole = [ids for ids in found if len(ids) == settings.max_new_tokens or ids[-1] in ends]
    texts = [ids for ids in whole if not goes_on(ids, ends)]
    if not texts:
        raise nothing_left(settings)
    return texts, answer.past_key_values


def _hypotheses(texts: Sequence[ScoredText], settings: BeamSettings) -> tuple[Hypothesis, ...]:
    """Scored texts with rank and score, best first.

    In float32 that is the order the library returns them in; in 16 bits its scores, by a cache and row by row, are
    others than those of one pass, and the ranks are to be those of the scores that stand beside them.
    """
    scored = [(settings.score(text.logprob_nats, len(text.ids)), text) for text in texts]
    best = sorted(scored, key=lambda pair: -pair[0])
    return tuple(
        Hypothesis(text.ids, text.token_logprob_nats, text.finished, rank=rank, score=score)
        for rank, (score, text) in enumerate(best, 1)
    )
