"""Filters, dice and distributions against plain arithmetic in float64."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import GenerationConfig

import reference
from conftest import random_gpt2
from layer_decoding import LayerDecodingError, sample
from layer_decoding.decoding.distribution import curves, draw, drawn_from, next_distribution, rank, warpers
from layer_decoding.decoding.sampling import Sampler
from layer_decoding.results.settings import GREEDY, Setting
from sampling_by_hand import LAST_UNIFORM, SETTINGS, by_hand, pick, random_logits

PROMPT = [5, 17, 42, 8]
settings = st.builds(
    Setting,
    temperature=st.sampled_from([0.0, 0.01, 0.5, 1.0, 1.7, 50.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 13, 1000]),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-9, 0.05, 0.5, 0.99]),
)
seeds = st.integers(0, 2**32)


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


@pytest.mark.parametrize("temperature", [5e-324, 1e-30, 1e-3, 1e30, 1e308])
def test_any_finite_temperature_has_a_distribution(temperature):
    logits = random_logits(3) * 1e4
    probabilities = drawn_from(rank(logits), Setting(temperature))
    assert probabilities.sum() == pytest.approx(1)
    if temperature < 1:
        assert probabilities[0, 0] == 1


def test_logits_that_are_no_numbers_are_refused():
    for wrong in (math.nan, math.inf):
        logits = random_logits(0)
        logits[0, 3] = wrong
        with pytest.raises(LayerDecodingError, match="no finite logits"):
            draw(logits, Setting(), [0.5])


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
