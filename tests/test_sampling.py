"""Sampling against plain arithmetic in float64: the filters, the dice, the batch, the numbers of each sample."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import GenerationConfig

import reference
from conftest import SOURCE, random_gpt2
from layer_decoding import LayerDecodingError, UsageError, sample, truncate
from layer_decoding.distribution import curves, next_distribution
from layer_decoding.drawing import draw, drawn_from, rank, warpers
from layer_decoding.sampling import Sampler, SamplingInterrupted
from layer_decoding.sampling_results import Sample
from layer_decoding.sampling_settings import DEFAULT_SETTINGS, GREEDY, Setting, combinations

PROMPT = [5, 17, 42, 8]
LAST_UNIFORM = math.nextafter(1, 0)
SETTINGS = [Setting(), Setting(0.5), Setting(2.0), Setting(top_k=5), Setting(top_p=0.7), Setting(1.3, 20, 0.9, 0.02)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On models as small as these, threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


settings = st.builds(
    Setting,
    temperature=st.sampled_from([0.0, 0.01, 0.5, 1.0, 1.7, 50.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 13, 1000]),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-9, 0.05, 0.5, 0.99]),
)
seeds = st.integers(0, 2**32)


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


# ---------------------------------------------------------------- filters


@given(seeds, settings)
def test_filters_are_the_arithmetic_in_float64(seed, setting):
    logits = random_logits(seed)
    expected = [probability for _, probability in by_hand(logits[0], setting)]
    got = drawn_from(rank(logits), setting)[0]
    assert (got > 0).sum() == len(expected)
    assert got[: len(expected)].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_vocabulary_of_real_size():
    logits = random_logits(1, vocabulary=50257)
    for setting in [Setting(1.3, 2000, 0.9, 0.001), Setting(top_p=0.999)]:
        expected = [probability for _, probability in by_hand(logits[0], setting)]
        got = drawn_from(rank(logits), setting)[0]
        assert (got > 0).sum() == len(expected)
        assert got[: len(expected)].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("top_p, kept", [(0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4), (1e-12, 1), (1, 4)])
def test_the_token_that_crosses_p_is_kept(top_p, kept):
    logits = torch.tensor([[0.05, 0.5, 0.15, 0.3]]).log()
    assert (drawn_from(rank(logits), Setting(top_p=top_p)) > 0).sum() == kept


def test_filters_are_the_librarys_in_its_order(tiny):
    setting = Setting(0.7, top_k=9, top_p=0.8, min_p=0.1)
    config = GenerationConfig(do_sample=True, temperature=0.7, top_k=9, top_p=0.8, min_p=0.1)
    theirs = tiny._get_logits_processor(config, device="cpu")
    ours = warpers(setting)
    assert [type(warper) for warper in ours] == [type(warper) for warper in theirs]
    logits = random_logits(4)
    expected = theirs(None, logits.double()).softmax(1).sort(descending=True).values
    assert torch.allclose(drawn_from(rank(logits), setting), expected, rtol=1e-12)


def test_off_means_off():
    assert warpers(Setting()) == []
    assert (drawn_from(rank(random_logits(0)), Setting()) > 0).all()


def test_what_the_model_ships_filters_nothing(tiny):
    before = sample(tiny, PROMPT, 8, num_samples=3)
    tiny.generation_config.update(do_sample=True, top_k=1, temperature=0.1, repetition_penalty=9.0)
    assert sample(tiny, PROMPT, 8, num_samples=3) == before


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-3, 1e30, 1e308])
def test_any_finite_temperature_has_a_distribution(temperature):
    logits = random_logits(3) * 1e4
    probabilities = drawn_from(rank(logits), Setting(temperature))
    assert probabilities.sum() == pytest.approx(1)
    if temperature < 1:
        assert probabilities[0, 0] == 1


# ---------------------------------------------------------------- dice


@given(seeds, settings, st.floats(0, 1, exclude_max=True) | st.sampled_from([0.0, LAST_UNIFORM]))
def test_a_number_becomes_the_token_it_falls_on(seed, setting, uniform):
    logits = random_logits(seed)
    shares = by_hand(logits[0], setting)
    edges = np.cumsum([probability for _, probability in shares])[:-1]
    assume(not np.any(np.abs(edges - uniform) < 1e-12))
    draws = draw(logits, setting, [uniform])
    assert draws.ids.tolist() == [pick(shares, uniform)]
    assert draws.kept_counts.tolist() == [len(shares)]


@pytest.mark.parametrize("setting", [*SETTINGS, Setting(0.01), Setting(min_p=0.3)])
def test_no_token_of_probability_zero_is_drawn(setting):
    """The largest number below 1 falls on a last token that can be drawn, however the sum was rounded."""
    for seed in range(20):
        logits = random_logits(seed, vocabulary=501)
        logits[0, ::3] = -torch.inf
        drawn = int(draw(logits, setting, [LAST_UNIFORM]).ids[0])
        place = reference.rank(logits[0], drawn)
        probabilities = drawn_from(rank(logits), setting)[0]
        assert probabilities[place - 1] > 0
        assert probabilities[place:].sum() < 1e-15
        last = int(draw(logits, setting, [1.0]).ids[0])  # not a number that dice show, and no way out of bounds
        assert reference.rank(logits[0], last) == int((probabilities > 0).sum())


def test_equal_tokens_lie_in_the_order_of_their_ids():
    logits = torch.tensor([[0.0, 2.0, 0.0, 2.0, 2.0, 0.0]])
    width = float(drawn_from(rank(logits), Setting())[0, 0])
    found = [int(draw(logits, Setting(), [(nth + 0.5) * width]).ids[0]) for nth in range(3)]
    assert found == [1, 3, 4]
    assert draw(torch.zeros(1, 97), Setting(top_k=1), [LAST_UNIFORM]).ids.tolist() == [0]
    assert draw(torch.zeros(1, 97), GREEDY, [LAST_UNIFORM]).ids.tolist() == [0]
    assert draw(torch.tensor([[-0.0, 0.0, -0.0]]), Setting(), [0.0]).ids.tolist() == [0]


@given(seeds, st.floats(0, 1, exclude_max=True))
def test_a_tighter_setting_never_draws_a_less_likely_token(seed, uniform):
    logits = random_logits(seed)
    place = {
        setting: float(logits[0, draw(logits, setting, [uniform]).ids[0]])
        for setting in [
            *(Setting(t) for t in (0, 0.3, 1, 3)),
            *(Setting(top_k=k) for k in (1, 3, 10)),
            *(Setting(top_p=p) for p in (0.2, 0.6, 0.95)),
            *(Setting(min_p=p) for p in (0.5, 0.1, 0.01)),
        ]
    }
    for knobs in (
        [Setting(t) for t in (0, 0.3, 1, 3)],
        [*(Setting(top_k=k) for k in (1, 3, 10)), Setting()],
        [*(Setting(top_p=p) for p in (0.2, 0.6, 0.95)), Setting()],
        [*(Setting(min_p=p) for p in (0.5, 0.1, 0.01)), Setting()],
    ):
        logits_drawn = [place.get(knob, place[Setting(1)]) for knob in knobs]
        assert logits_drawn == sorted(logits_drawn, reverse=True)


def within_four_deviations(counts, probabilities, total):
    for count, probability in zip(counts, probabilities, strict=True):
        assert abs(count - total * probability) <= 4 * math.sqrt(total * probability * (1 - probability)) + 1e-9


@pytest.mark.parametrize("setting", [Setting(), Setting(0.5), Setting(1.5, 5, 0.9)])
def test_twenty_thousand_draws_have_the_frequencies(setting):
    logits = torch.tensor([[1.0, 0.2, -1.0, 2.0, 0.0, 1.4, -3.0]])
    die = random.Random(str(setting))
    uniforms = [die.random() for _ in range(20_000)]
    ids = draw(logits.expand(20_000, -1), setting, uniforms).ids
    expected = dict(by_hand(logits[0], setting))
    within_four_deviations(ids.bincount(minlength=7).tolist(), [expected.get(i, 0.0) for i in range(7)], 20_000)


def test_twenty_thousand_samples_have_the_frequencies():
    """The same through the whole: each sample's own generator, the model, the batch."""
    model = random_gpt2(vocab_size=11)
    ids = [drawn.ids[0] for drawn in sample(model, [1, 2, 3], 1, num_samples=20_000).samples]
    expected = reference.log_softmax64(model(torch.tensor([[1, 2, 3]])).logits[0, -1]).exp().tolist()
    within_four_deviations(np.bincount(ids, minlength=11).tolist(), expected, 20_000)


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


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("setting", [Setting(2.0), Setting(top_p=0.9)])
def test_a_sample_is_the_same_in_a_batch_of_any_size(mini, prompt_ids, setting, threads):
    """Number by number, not only token by token: a boundary that moves by rounding changes a token sooner or later."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sampler = Sampler(mini.model, prompt_ids, 16)
        largest = sampler.sample(setting, 13, seed=5).samples
        for size in (1, 2, 5, 8, 9):
            assert sampler.sample(setting, size, seed=5).samples == largest[:size], size
    finally:
        torch.set_num_threads(before)


def test_another_setting_changes_no_sample(mini, prompt_ids):
    """And one that cuts nothing off changes none either: the dice are the same in all."""
    sampler = Sampler(mini.model, prompt_ids, 12)
    together = [sampler.sample(setting, 2) for setting in DEFAULT_SETTINGS]
    for setting, sampling in zip(DEFAULT_SETTINGS, together, strict=True):
        alone = sample(mini.model, prompt_ids, 12, num_samples=2, **vars(setting))
        assert alone == sampling
    pure = together[1].samples
    vacuous = sampler.sample(Setting(top_k=4096, top_p=1 - 1e-16, min_p=1e-300), 2)
    assert [drawn.ids for drawn in vacuous.samples] == [drawn.ids for drawn in pure]


def test_another_process_draws_the_same(mini, prompt_ids):
    here = [drawn.ids for drawn in sample(mini.model, prompt_ids, 12, num_samples=3, seed=11).samples]
    code = (
        "from layer_decoding import load_model, sample\n"
        f"drawn = sample(load_model('mini', device='cpu').model, {prompt_ids}, 12, num_samples=3, seed=11)\n"
        "print([one.ids for one in drawn.samples])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str(here)


def test_seeds_and_samples_throw_dice_of_their_own(tiny):
    texts = {
        drawn.ids for seed in (0, 1, -1, 10**30) for drawn in sample(tiny, PROMPT, 12, num_samples=4, seed=seed).samples
    }
    assert len(texts) == 16


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
    with pytest.raises(SamplingInterrupted) as stopped:
        sampler.sample(Setting(), 2, on_step=stop_at_three)
    whole = sampler.sample(Setting(), 2)
    assert [drawn.ids for drawn in stopped.value.result.samples] == [drawn.ids[:3] for drawn in whole.samples]


# ---------------------------------------------------------------- distribution


@pytest.mark.parametrize("setting", [*SETTINGS, GREEDY, Setting(top_k=2), Setting(top_k=500), Setting(top_k=96)])
def test_a_distribution_is_the_draws_own(tiny, setting):
    logits = Sampler(tiny, PROMPT, 1).next_logits()
    found = next_distribution(logits, setting)
    before = reference.log_softmax64(logits[0]).exp()
    after = dict(by_hand(logits[0], setting))
    assert (found.vocabulary, found.kept_count) == (97, len(after))
    assert found.kept_probability == pytest.approx(float(sum(before[token] for token in after)))
    for share in found.shares:
        assert reference.rank(logits[0], share.id) == share.rank
        assert share.before == pytest.approx(float(before[share.id]))
        assert share.after == pytest.approx(after.get(share.id, 0.0), abs=1e-12)
    ranks = [share.rank for share in found.shares]
    if len(after) < 97 and setting.filters:
        assert {len(after), len(after) + 1} <= set(ranks)
    else:
        assert ranks == list(range(1, 11))


def test_curves_by_hand(tiny):
    logits = Sampler(tiny, PROMPT, 1).next_logits()
    found = curves(logits, [Setting(0), Setting(0.5), Setting(top_k=7), Setting(top_p=0.4, top_k=3)])
    assert found.probabilities == pytest.approx([probability for _, probability in by_hand(logits[0], Setting())])
    assert [temperature for temperature, _ in found.tempered] == [0.5, 1.0]
    for temperature, probabilities in found.tempered:
        shares = by_hand(logits[0], Setting(temperature))[:20]
        assert list(found.top_ids) == [token for token, _ in shares]
        assert probabilities == pytest.approx([probability for _, probability in shares])
    assert (found.top_ks, found.top_ps) == ((3, 7), (0.4,))


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
    monkeypatch.setattr("layer_decoding.sampling_batch.free_bytes", lambda _: 10**6)
    with pytest.raises(LayerDecodingError, match=r"too small for 500 samples of 7 tokens"):
        sample(tiny, PROMPT, 3, num_samples=500)


def test_logits_that_are_no_numbers_are_refused():
    for wrong in (math.nan, math.inf):
        logits = random_logits(0)
        logits[0, 3] = wrong
        with pytest.raises(LayerDecodingError, match="not numbers"):
            draw(logits, Setting(), [0.5])


def test_combinations_are_the_product_each_once():
    assert combinations([0.5, 1, 0.5], [0, 50], [], []) == (
        Setting(0.5), Setting(0.5, 50), Setting(1), Setting(1, 50)
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"combine to 1,000 runs; give fewer, for at most 100"):
        combinations(range(10), range(10), [p / 10 for p in range(1, 11)], [])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_batch_sizes_on_a_wider_model(seed):
    """Vocabulary and width of real kernels, flat distributions: where rounding would show first."""
    model = random_gpt2(seed, vocab_size=20011, n_embd=192, n_head=3)
    sampler = Sampler(model, PROMPT, 40)
    largest = sampler.sample(Setting(2.0), 17, seed=seed).samples
    for size in range(1, 17):
        assert sampler.sample(Setting(2.0), size, seed=seed).samples == largest[:size], size
