"""Sampling against a plain loop: each sample its own dice in any batch, its numbers, its end."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import reference
from conftest import random_gpt2
from layer_decoding import LayerDecodingError, UsageError, sample, truncate
from layer_decoding.decoding.sampling import Sampler, _draw, sample_settings
from layer_decoding.decoding.sampling_batch import Batch, Reading, batch_invariant_attention
from layer_decoding.errors import Interrupted
from layer_decoding.lens.cache import read_on
from layer_decoding.results.sampling import Sample
from layer_decoding.results.settings import DEFAULT_SETTINGS, Setting, combinations
from sampling_by_hand import SETTINGS, by_hand, pick, random_logits

PROMPT = [5, 17, 42, 8]


# ---------------------------------------------------------------- the loop


def sample_by_hand(model, prompt, new, setting, seed, index):
    """One text, one uncached pass a token, with the dice of (seed, index)."""
    die, text = random.Random(f"{seed} {index}"), list(prompt)
    for _ in range(new):
        logits = model(torch.tensor([text]), use_cache=False).logits[0, -1]
        text.append(pick(by_hand(logits, setting), die.random()))
    return tuple(text[len(prompt) :])


@pytest.mark.parametrize("setting", SETTINGS)
def test_samples_are_those_of_a_plain_loop(tiny, setting):
    sampling = Sampler(tiny, PROMPT, 10).sample(setting, 3, seed=7)
    assert [drawn.ids for drawn in sampling.samples] == [
        sample_by_hand(tiny, PROMPT, 10, setting, 7, index) for index in range(3)
    ]


@pytest.mark.parametrize("layer", range(4))
def test_samples_of_truncated_models_are_those_of_a_plain_loop(tiny, layer):
    cut = truncate(tiny, layer)
    drawn = sample(cut, PROMPT, 6, num_samples=2, temperature=1.5)
    assert [one.ids for one in drawn.samples] == [sample_by_hand(cut, PROMPT, 6, Setting(1.5), 0, i) for i in range(2)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"temperature": 3, "top_k": 1, "top_p": 0.5}])
def test_greedy_has_many_names(seed, options):
    model = random_gpt2(seed)
    sampling = sample(model, PROMPT, 12, num_samples=3, seed=seed, **options)
    expected = tuple(reference.greedy(model, PROMPT, 12))
    assert [drawn.ids for drawn in sampling.samples] == [expected] * 3
    assert [drawn.index for drawn in sampling.samples] == [0, 1, 2]
    assert sampling.samples[0].kept_counts == (1,) * 12


def test_greedy_on_the_bundled_model(mini, prompt_ids):
    assert list(sample(mini.model, prompt_ids, 20, top_k=1).samples[0].ids) == reference.greedy(
        mini.model, prompt_ids, 20
    )


def test_greedy_takes_the_lowest_id_of_equals():
    model = random_gpt2()
    model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight), requires_grad=False)
    for options in ({"temperature": 0}, {"top_k": 1}):
        assert sample(model, PROMPT, 4, **options).samples[0].ids == (0, 0, 0, 0)


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)])
def threads(request):
    """As many threads as given."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("setting", [Setting(2.0), Setting(top_p=0.9)])
def test_a_sample_is_the_same_among_any_number(mini, prompt_ids, setting):
    """Number by number, not only token by token: a boundary that moves by rounding changes a token sooner or later."""
    sampler = Sampler(mini.model, prompt_ids, 8)
    largest = sampler.sample(setting, 13, seed=5).samples
    for size in (1, 2, 5, 8, 9):
        assert sampler.sample(setting, size, seed=5).samples == largest[:size], size


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("inner", [46, 50, 341, 1023])
def test_widths_that_no_kernel_likes(inner):
    """Matrix products whose inner width is no multiple of 8 treat their last row otherwise than the rows before it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=211, hidden_size=64, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    sampler = Sampler(LlamaForCausalLM(config).eval().requires_grad_(False), PROMPT, 6)
    largest = sampler.sample(Setting(2.0), 17).samples
    for size in (1, 3, 4, 5, 7, 8, 9, 16):
        assert sampler.sample(Setting(2.0), size).samples == largest[:size], size


def test_logits_are_the_same_bits_among_any_number():
    """By several threads, which multiply in pieces where a width divides into them: 64 does, 341 does not."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        reading = Reading(random_gpt2(n_embd=64, n_inner=341), PROMPT)
        largest = _logits_of_steps(reading, 17)
        for size in (1, 2, 9):
            assert torch.equal(_logits_of_steps(reading, size), largest[:, :size]), size
    finally:
        torch.set_num_threads(before)


def _logits_of_steps(reading, size):
    """[2, size, V]: those after one token and after two, each text going on with its own."""
    steps = []
    with torch.inference_mode(), batch_invariant_attention():
        batch = Batch(reading, size)
        for step in range(2):
            batch.advance([(7 * text + step) % 97 for text in range(size)])
            steps.append(batch.logits)
    return torch.stack(steps)


def test_what_fills_a_pass_up_is_its_first_text(tiny, monkeypatch):
    """For then it need not be multiplied."""
    seen = []

    def listening(model, ids, *rest, **options):
        seen.append(ids.flatten().tolist())
        return read_on(model, ids, *rest, **options)

    monkeypatch.setattr("layer_decoding.decoding.sampling_batch.read_on", listening)
    with torch.inference_mode(), batch_invariant_attention():
        Batch(Reading(tiny, PROMPT), 11).advance(list(range(11)))
    assert seen == [PROMPT, [0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 8, 8, 8, 8, 8]]


def test_a_vocabulary_that_is_summed_by_several_threads():
    """One row alone is cut into a piece a thread, several rows are shared out among them."""
    logits = random_logits(0, rows=3, vocabulary=49_152)
    before = torch.get_num_threads()

    def numbers(rows):
        return [vars(drawn) for drawn in _draw(SimpleNamespace(logits=logits[:rows]), Setting(), [0.5] * rows)]

    torch.set_num_threads(2)
    try:
        assert numbers(1) == numbers(2)[:1] == numbers(3)[:1]
    finally:
        torch.set_num_threads(before)


def test_greedy_reads_one_text(tiny, monkeypatch):
    rows, forward = [], tiny.transformer.forward

    def counted(input_ids, **options):
        rows.append(len(input_ids))
        return forward(input_ids, **options)

    monkeypatch.setattr(tiny.transformer, "forward", counted)
    sample(tiny, PROMPT, 3, num_samples=9, top_k=1)
    assert rows == [1, 1, 1]
    rows.clear()
    sample(tiny, PROMPT, 3, num_samples=9)
    assert rows == [1, 8, 8, 8, 8]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_wider_model(seed):
    """Vocabulary and width of real kernels, flat distributions: where rounding would show first."""
    model = random_gpt2(seed, vocab_size=20011, n_embd=192, n_head=3)
    sampler = Sampler(model, PROMPT, 40)
    largest = sampler.sample(Setting(2.0), 17, seed=seed).samples
    for size in range(1, 17):
        assert sampler.sample(Setting(2.0), size, seed=seed).samples == largest[:size], size


def test_another_setting_changes_no_sample(mini, prompt_ids):
    """And one that cuts nothing off changes none either: the dice are the same in all."""
    sampler = Sampler(mini.model, prompt_ids, 12)
    together = [sampler.sample(setting, 2) for setting in DEFAULT_SETTINGS]
    for setting, sampling in zip(DEFAULT_SETTINGS, together, strict=True):
        alone = sample(mini.model, prompt_ids, 12, num_samples=2, **vars(setting))
        assert alone == sampling
    pure = together[1].samples
    vacuous = sampler.sample(Setting(top_k=10_000, top_p=1 - 1e-16, min_p=1e-300), 2)
    assert [drawn.ids for drawn in vacuous.samples] == [drawn.ids for drawn in pure]


def test_seeds_and_samples_throw_dice_of_their_own(tiny):
    texts = {
        drawn.ids for seed in (0, 1, -1, 10**30) for drawn in sample(tiny, PROMPT, 12, num_samples=4, seed=seed).samples
    }
    assert len(texts) == 16


def test_what_the_model_ships_filters_nothing(tiny):
    before = sample(tiny, PROMPT, 8, num_samples=3)
    tiny.generation_config.update(do_sample=True, top_k=1, temperature=0.1, repetition_penalty=9.0)
    assert sample(tiny, PROMPT, 8, num_samples=3) == before


def test_the_whole_model_comes_last(tiny):
    run = sample_settings(tiny, PROMPT, 4, [Setting(2.0)], layers=[1, 3])
    assert [drawn.layer for drawn in run.layers] == [1, 3, 4]
    assert run.model == run.layers[-1]
    assert run.model.greedy.ids == tuple(reference.greedy(tiny, PROMPT, 4))


def test_random_states_are_left_as_they_were(tiny):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    sample(tiny, PROMPT, 5, num_samples=3)
    torch.manual_seed(999)
    changed = sample(tiny, PROMPT, 5, num_samples=3)
    torch.set_rng_state(before[0])
    assert sample(tiny, PROMPT, 5, num_samples=3) == changed
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == str(before[2])


def test_hooks_are_gone_afterwards(tiny):
    sample(tiny, PROMPT, 3)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny.modules())


# ---------------------------------------------------------------- numbers of a sample


@pytest.mark.parametrize("setting", SETTINGS)
def test_numbers_are_the_untouched_models(tiny, setting):
    for drawn in Sampler(tiny, PROMPT, 10).sample(setting, 2).samples:
        logits = tiny(torch.tensor([[*PROMPT, *drawn.ids]])).logits[0, len(PROMPT) - 1 : -1]
        logp = reference.log_softmax64(logits).gather(1, torch.tensor(drawn.ids)[:, None])[:, 0]
        assert drawn.token_logprob_nats == pytest.approx(logp.tolist(), abs=1e-4)
        assert drawn.logprob_nats == pytest.approx(float(logp.sum()), abs=1e-4)
        assert drawn.mean_entropy_bits == pytest.approx(float(reference.entropy_bits64(logits).mean()), abs=1e-4)
        for step, row in enumerate(logits):
            shares = by_hand(row, setting)
            assert drawn.kept_counts[step] == len(shares)
            sums = np.cumsum([probability for _, probability in shares])
            assert drawn.nucleus_sizes[step] == int(np.searchsorted(sums, 0.9)) + 1


@pytest.mark.parametrize(
    "ids, share",
    [
        ((1, 2), None),
        ((1, 2, 3), 0),
        ((1, 1, 1, 1), 1 / 2),
        ((1, 2, 3, 1, 2, 3, 1, 2, 3), 4 / 7),
        ((1, 2, 3, 4, 2, 3, 4), 1 / 5),
        (tuple(range(20)), 0),
    ],
)
def test_repeated_trigrams_by_hand(ids, share):
    length = len(ids)
    text = Sample(0, ids, False, (-1.0,) * length, (2.0,) * length, (3,) * length, (3,) * length)
    assert text.repeated_trigram_share == (share if share is None else pytest.approx(share))
    assert text.distinct_tokens == len(set(ids))
    assert (text.logprob_nats, text.mean_entropy_bits) == (-length, 2.0)


def test_each_text_ends_for_itself():
    model = random_gpt2(1)
    free = sample(model, PROMPT, 12, num_samples=6)
    end = free.samples[2].ids[4]
    model.generation_config.eos_token_id = end
    told = []
    sampler = Sampler(model, PROMPT, 12)
    ended = sampler.sample(Setting(), 6, on_step=lambda step, newest: told.append((step, newest)))
    for whole, cut in zip(free.samples, ended.samples, strict=True):
        length = whole.ids.index(end) + 1 if end in whole.ids else 12
        assert cut.ids == whole.ids[:length]
        assert cut.finished == (end in whole.ids)
        assert len(cut.token_logprob_nats) == len(cut.entropy_bits) == len(cut.kept_counts) == length
        assert tuple(newest[cut.index] for _, newest in told if cut.index in newest) == cut.ids
    assert len({len(cut.ids) for cut in ended.samples}) > 1


def test_a_run_stops_with_its_last_text():
    model = random_gpt2(1)
    model.generation_config.eos_token_id = list(range(97))
    steps = []
    sampling = Sampler(model, PROMPT, 12).sample(Setting(), 3, on_step=lambda step, _: steps.append(step))
    assert steps == [1]
    assert all(drawn.finished and len(drawn.ids) == 1 for drawn in sampling.samples)


def test_interruption_keeps_what_was_finished(tiny):
    def stop_at_three(step, _):
        if step == 3:
            raise KeyboardInterrupt

    sampler = Sampler(tiny, PROMPT, 9)
    with pytest.raises(Interrupted) as stopped:
        sampler.sample(Setting(), 2, on_step=stop_at_three)
    whole = sampler.sample(Setting(), 2)
    assert [drawn.ids for drawn in stopped.value.result.samples] == [drawn.ids[:3] for drawn in whole.samples]


# ---------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"temperature": -1}, "The temperature is -1; give 0"),
        ({"temperature": math.nan}, "The temperature is nan"),
        ({"temperature": math.inf}, "The temperature is inf"),
        ({"top_k": -1}, "Top-k is -1"),
        ({"top_p": 0}, "Top-p is 0"),
        ({"top_p": 1.01}, r"Top-p is 1\.01"),
        ({"top_p": math.nan}, "Top-p is nan"),
        ({"min_p": 1}, "Min-p is 1"),
        ({"min_p": -0.1}, r"Min-p is -0\.1"),
        ({"min_p": math.nan}, "Min-p is nan"),
        ({"num_samples": 0}, "The number of samples is 0"),
        ({"max_new_tokens": 0}, "must be at least 1"),
        ({"max_new_tokens": 61}, "at most 60 new tokens"),
        ({"prompt_ids": []}, "The prompt is empty"),
        ({"prompt_ids": [97]}, "Token id 97 is not in the model's vocabulary"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny, options, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        sample(tiny, **({"prompt_ids": PROMPT, "max_new_tokens": 3} | options))
    assert "\n" not in str(refused.value)


def test_the_whole_context_can_be_used(tiny):
    assert len(sample(tiny, [1] * 60, 4).samples[0].ids) == 4


def test_a_batch_beyond_the_memory_is_refused_before_it_is_made(tiny, monkeypatch):
    monkeypatch.setattr("layer_decoding.decoding.sampling_batch.free_bytes", lambda _: 10**6)
    with pytest.raises(LayerDecodingError, match=r"too small for 500 samples of 7 tokens"):
        sample(tiny, PROMPT, 3, num_samples=500)


def test_combinations_are_the_product_each_once():
    assert combinations([0.5, 1, 0.5], [0, 50], [], []) == (
        Setting(0.5), Setting(0.5, 50), Setting(1), Setting(1, 50)
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"combine to 1,000 runs; give fewer, for at most 100"):
        combinations(range(10), range(10), [p / 10 for p in range(1, 11)], [])
