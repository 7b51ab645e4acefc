"""Sampling: texts drawn from a model by dice of their own, all samples of one setting in one cached batch.

Sample i draws one uniform number a step from a generator seeded with (seed, i) alone: it is the same text whatever
the number of samples, and it throws the same dice under every setting. `distribution` tells how a number becomes a
token, `sampling_batch` why a batch of another size makes no difference.
"""

import random
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.decoding.distribution import Draws, draw, next_distribution, rows_at_once
from layer_decoding.decoding.sampling_batch import ROWS, Batch, Reading, batch_invariant_attention, check_memory
from layer_decoding.decoding.watching import OnStep, keeping
from layer_decoding.errors import Interrupted, UsageError
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.truncation import truncate
from layer_decoding.models.generation import end_ids
from layer_decoding.models.sizes import check_ids, check_lengths, layer_count, select_cuts
from layer_decoding.results.sampling import ModelSamples, Sample, Sampling, SamplingListener, SamplingRun
from layer_decoding.results.settings import GREEDY, Setting, check_runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def sample(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    num_samples: int = 1,
    seed: int = 0,
) -> Sampling:
    """Draw `num_samples` texts under one setting; what is left out is off, so that nothing filters by default.

    Args:
        prompt_ids: P token ids, at least one.
        temperature: logits are divided by it before everything else; 0 is greedy.
        top_k: only the k likeliest tokens can be drawn; 0 is off, 1 is greedy (A. Fan et al., 2018).
        top_p: only the fewest tokens that hold p together, the one that crosses p included; 1 is off
            (A. Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020).
        min_p: only tokens at least min_p times as likely as the likeliest; 0 is off (N. N. Minh et al., 2024).
        seed: any whole number. Torch's random state is neither read nor changed.

    Raises:
        UsageError: a setting, length, number or id out of range.
        LayerDecodingError: more samples than the memory holds.
        Interrupted: Ctrl-C; carries what was finished.
    """
    setting = Setting(temperature, top_k, top_p, min_p)
    return Sampler(model, prompt_ids, max_new_tokens).sample(setting, num_samples, seed)


def sample_settings(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    settings: Sequence[Setting],
    *,
    num_samples: int = 1,
    seed: int = 0,
    layers: Sequence[int] | None = (),
    distributions: bool = False,
    listener: SamplingListener | None = None,
    lens: FittedLens | None = None,
) -> SamplingRun:
    """The same dice under several settings, on the whole model and on those cut off after some layers.

    Args:
        layers: block numbers to sample on as well, None for 1 … L; the whole model comes last.
        distributions: also what each setting leaves of the distribution after the prompt.
        listener: told of every step, every setting's samples and every model's, as they are there.
        lens: one that was fitted to the model, whose map stands behind the block where it is cut; None for the plain
            one.

    Raises:
        UsageError, LayerDecodingError: as `sample`, and for more runs than one shows.
        Interrupted: Ctrl-C; carries None: what was finished, the listener has been told.
    """
    count = layer_count(model)
    cuts = select_cuts(layers, count) if layers is None or layers else []
    check_runs(len(settings), len(cuts) or 1)
    told = listener or SamplingListener()
    whole = Sampler(model, prompt_ids, max_new_tokens)
    whole.check_samples(num_samples)
    told.on_start()
    drawn = []
    for layer in cuts[:-1]:
        sampler = Sampler(truncate(model, layer, lens), prompt_ids, max_new_tokens)
        drawn.append(_draw_model(layer, sampler, settings, num_samples, seed, distributions, told))
    drawn.append(_draw_model(count, whole, settings, num_samples, seed, distributions, told))
    ids = tuple(whole.prompt)
    name = PLAIN_LENS if lens is None else lens.name
    return SamplingRun(count, ids, max_new_tokens, seed, drawn[-1], tuple(drawn) if cuts else (), name)


def _draw_model(
    layer: int,
    sampler: "Sampler",
    settings: Sequence[Setting],
    num_samples: int,
    seed: int,
    distributions: bool,
    told: SamplingListener,
) -> ModelSamples:
    """Greedy, then every setting, on one model."""
    told.on_model(layer)
    found = []
    for setting, count in [(GREEDY, 1), *((setting, num_samples) for setting in settings)]:
        try:
            found.append(sampler.sample(setting, count, seed, told.on_step))
        except Interrupted as stop:
            if stop.result is not None:
                told.on_samples(stop.result)
            raise Interrupted(None) from None
        told.on_samples(found[-1])
    shares = [next_distribution(sampler.next_logits(), each.setting) for each in found] if distributions else []
    model = ModelSamples(layer, found[0].samples[0], tuple(found[1:]), tuple(shares))
    told.on_done(model)
    return model


class Sampler:
    """A model that has read a prompt, once, ready to be sampled from under any number of settings."""

    def __init__(self, model: "PreTrainedModel", prompt_ids: Sequence[int], max_new_tokens: int) -> None:
        self.prompt, self.max_new_tokens = list(prompt_ids), max_new_tokens
        check_lengths(model, self.prompt, max_new_tokens)
        check_ids(model, self.prompt)
        self.model = model
        self.ends = frozenset(end_ids(model))
        with torch.inference_mode(), batch_invariant_attention():
            self.reading = Reading(model, self.prompt)

    def next_logits(self) -> torch.Tensor:
        """The model's logits for the first new token: float32 [1, V]."""
        return self.reading.logits

    def check_samples(self, num_samples: int) -> None:
        """Raise UsageError for fewer than one sample, LayerDecodingError for more than the memory holds."""
        if num_samples < 1:
            raise UsageError(f"The number of samples is {num_samples}; it must be at least 1.")
        check_memory(self.model, num_samples, len(self.prompt) + self.max_new_tokens)

    def sample(self, setting: Setting, num_samples: int = 1, seed: int = 0, on_step: OnStep | None = None) -> Sampling:
        """Draw the samples 0 … num_samples - 1 of one setting; on_step(step, {index: id}) is told of each step."""
        self.check_samples(num_samples)
        drawn = 1 if setting.is_greedy else num_samples  # greedy samples are all the same text
        dice = [random.Random(f"{seed} {index}") for index in range(drawn)]
        record = _Record(drawn, self.ends)

        def result() -> Sampling | None:
            if not record.steps:
                return None
            samples = tuple(record.sample(index, index % drawn) for index in range(num_samples))
            return Sampling(setting, seed, tuple(self.prompt), self.max_new_tokens, samples)

        with keeping(result), torch.inference_mode(), batch_invariant_attention():
            batch = Batch(self.reading, drawn, 1 if setting.is_greedy else ROWS)
            for step in range(1, self.max_new_tokens + 1):
                record.add(_draw(batch, setting, [die.random() for die in dice]))
                if on_step is not None:
                    on_step(step, record.newest)
                if not record.going_on or step == self.max_new_tokens:
                    break
                batch.advance(record.last_ids)
        sampling = result()
        assert sampling is not None  # at least one step was asked for
        return sampling


def _draw(batch: Batch, setting: Setting, uniforms: list[float]) -> list[Draws]:
    """A token for each text of a batch, one uniform number a text, in as many parts as `rows_at_once` says.

    On a CPU one after the other: on several threads a sum over one row is split otherwise than sums over many.
    """
    dice = iter(uniforms)
    parts = batch.logits.split(rows_at_once(batch.logits))
    return [draw(part, setting, list(islice(dice, len(part)))) for part in parts]


class _Record:
    """The steps of R texts so far, and which go on."""

    def __init__(self, rows: int, ends: frozenset[int]) -> None:
        self.ends = ends
        self.steps: list[dict[str, list[Any]]] = []  # [T], each {field of Draws: [R]}
        self.going_on = list(range(rows))
        self.newest: dict[int, int] = {}  # {row: id} of the newest step, texts that ended before it left out

    @property
    def last_ids(self) -> list[int]:
        """The newest token of each row, [R]; a text that has ended goes on unseen."""
        return self.steps[-1]["ids"]

    def add(self, parts: list[Draws]) -> None:
        """Take one step, its rows in parts."""
        names = vars(parts[0])
        self.steps.append({name: torch.cat([getattr(part, name) for part in parts]).tolist() for name in names})
        self.newest = {row: self.last_ids[row] for row in self.going_on}
        self.going_on = [row for row, token in self.newest.items() if token not in self.ends]

    def sample(self, index: int, row: int) -> Sample:
        """A row's text as sample `index`, cut after the token that ended it."""
        ids = [step["ids"][row] for step in self.steps]
        length = next((at for at, token in enumerate(ids, 1) if token in self.ends), len(ids))
        column = {name: tuple(step[name][row] for step in self.steps[:length]) for name in self.steps[0]}
        return Sample(
            index=index,
            ids=column["ids"],
            finished=ids[length - 1] in self.ends,
            token_logprob_nats=column["logprob_nats"],
            entropy_bits=column["entropy_bits"],
            kept_counts=column["kept_counts"],
            nucleus_sizes=column["nucleus_sizes"],
        )
