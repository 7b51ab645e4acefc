"""All rows drawn in one go, as on a CUDA device: the tokens that they get one after the other, and the same numbers."""

import pytest
import torch

from conftest import random_gpt2, with_end
from layer_decoding import LayerDecodingError, sample
from layer_decoding.decoding import distribution
from layer_decoding.decoding.distribution import draw, draws_in_place, rows_at_once
from layer_decoding.results.settings import GREEDY, Setting
from sampling_by_hand import LAST_UNIFORM, SETTINGS, random_logits

PROMPT = [5, 17, 42, 8]


@pytest.fixture
def in_place(monkeypatch):
    """From when it is called on, a CPU draws as a CUDA device does."""
    return lambda: monkeypatch.setattr(distribution, "draws_in_place", lambda _: True)


def test_only_a_cuda_device_draws_in_place():
    assert [draws_in_place(torch.device(name)) for name in ("cuda:0", "cpu", "mps")] == [True, False, False]


@pytest.mark.parametrize("setting", [*SETTINGS, GREEDY, Setting(top_k=1)])
def test_samples_are_those_of_row_by_row(setting, in_place):
    def texts():
        model = with_end(random_gpt2(4), 72)
        drawn = sample(model, PROMPT, 10, num_samples=19, seed=3, **vars(setting)).samples
        numbers = [[*each.token_logprob_nats, *each.entropy_bits] for each in drawn]
        return [(each.ids, each.finished, each.kept_counts, each.nucleus_sizes) for each in drawn], numbers

    expected, numbers = texts()
    in_place()
    got, others = texts()
    assert got == expected
    for row, other in zip(numbers, others, strict=True):
        assert row == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("setting", SETTINGS)
def test_draws_of_a_real_vocabulary_and_of_equals(setting, in_place):
    """Logits cut to halves: hundreds of tokens share each value, and the lowest id among them comes first."""
    logits = (random_logits(1, rows=12, vocabulary=5021) * 2).round() / 2
    uniforms = [0.0, 1e-12, *(at / 10 for at in range(1, 10)), LAST_UNIFORM]
    alone = [draw(row, setting, [uniform]) for row, uniform in zip(logits.split(1), uniforms, strict=True)]
    in_place()
    together = draw(logits, setting, uniforms)
    for name in ("ids", "kept_counts", "nucleus_sizes"):
        assert getattr(together, name).tolist() == [int(getattr(each, name)) for each in alone], name
    for name in ("logprob_nats", "entropy_bits"):
        assert getattr(together, name).tolist() == pytest.approx([float(getattr(each, name)) for each in alone])


def test_one_draw_a_step_whatever_the_number_of_samples(tiny, in_place, monkeypatch):
    drawn = []

    def counted(logits, *rest):
        drawn.append(len(logits))
        return draw(logits, *rest)

    monkeypatch.setattr("layer_decoding.decoding.sampling.draw", counted)
    sample(tiny, PROMPT, 2, num_samples=3)
    in_place()
    sample(tiny, PROMPT, 2, num_samples=64)
    assert drawn == [1] * 6 + [64] * 2


def test_rows_at_once_are_limited_by_what_they_need(in_place):
    logits = torch.empty(10**6, 50_257, device="meta")
    assert rows_at_once(logits) == 1
    in_place()
    assert 64 <= rows_at_once(logits) < 1000


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(in_place, wrong):
    logits = random_logits(0, rows=3)
    logits[1, 5] = wrong
    in_place()
    with pytest.raises(LayerDecodingError, match="no finite logits"):
        draw(logits, Setting(), [0.5] * 3)
