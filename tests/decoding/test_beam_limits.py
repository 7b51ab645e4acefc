"""What a beam search refuses, how it counts its steps, and what is left of one that is interrupted."""

import math

import pytest
import torch

from conftest import random_gpt2, with_end
from layer_decoding import beam_search
from layer_decoding.errors import Interrupted, LayerDecodingError, UsageError
from layer_decoding.models.sizes import cache_bytes, score_bytes
from layer_decoding.results.beam import BeamSettings
from reference import library_search

PROMPT = [5, 17, 42, 8]


# ---------------------------------------------------------------- what cannot be meant, what does not fit


@pytest.mark.parametrize(
    "prompt, new, options, sentence",
    [
        (PROMPT, 3, {"num_beams": 0}, "The number of beams is 0"),
        (PROMPT, 3, {"num_beams": -2}, "The number of beams is -2"),
        (PROMPT, 3, {"num_return_sequences": 0}, "The number of returned sequences is 0"),
        (PROMPT, 3, {"num_beams": 2, "num_return_sequences": 3}, "3 sequences cannot be returned from 2 beams"),
        (PROMPT, 3, {"no_repeat_ngram_size": -1}, "The n-gram size is -1"),
        (PROMPT, 3, {"length_penalty": math.nan}, "The length penalty is nan"),
        (PROMPT, 3, {"length_penalty": math.inf}, "The length penalty is inf"),
        (PROMPT, 20, {"length_penalty": 1000.0}, "leave the range of float32; use one from -3.8 to 23"),
        (PROMPT, 20, {"length_penalty": -6.0}, "leave the range of float32"),
        ([], 3, {}, "The prompt is empty"),
        (PROMPT, 0, {}, "must be at least 1"),
        ([1] * 60, 5, {}, "at most 4 new tokens"),
        ([1, 97], 3, {}, "Token id 97"),
        (PROMPT, 3, {"layers": [5]}, "Layer 5 is out of range"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny, prompt, new, options, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        beam_search(tiny, prompt, new, **options)
    assert "\n" not in str(refused.value)


def test_length_penalties_at_the_bounds_still_rank_as_the_library_does(tiny):
    for penalty in (-3.8, 23.0):
        expected = library_search(tiny, PROMPT, 20, num_beams=3, num_return_sequences=3, length_penalty=penalty)
        found = beam_search(tiny, PROMPT, 20, num_beams=3, length_penalty=penalty).hypotheses
        assert [text.ids for text in found] == [ids for ids, _ in expected]


def test_the_cache_is_as_large_as_said(tiny):
    cache = tiny(torch.ones(3, 10, dtype=torch.long), use_cache=True).past_key_values
    assert cache_bytes(tiny, 3, 10) == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def test_memory_that_is_not_there_is_refused_beforehand(tiny, monkeypatch):
    monkeypatch.setattr("layer_decoding.models.sizes.free_bytes", lambda _: 10**6)
    with pytest.raises(LayerDecodingError, match=r"1000 × 7 tokens × 4 layers × 32 × 2 × 4 bytes = 0\.0 GB") as refused:
        beam_search(tiny, PROMPT, 3, num_beams=1000)
    assert refused.value.exit_code == 1
    assert "\n" not in str(refused.value)


def test_the_scores_count_as_well_as_the_cache(monkeypatch):
    model = random_gpt2(vocab_size=5000)
    assert cache_bytes(model, 10, 7) < 100_000 < score_bytes(model, 10) == 4 * 10 * 5000 * 4
    monkeypatch.setattr("layer_decoding.models.sizes.free_bytes", lambda _: 500_000)
    with pytest.raises(LayerDecodingError, match="too small for 10 beams"):
        beam_search(model, PROMPT, 3, num_beams=10)


def test_fewer_tokens_than_a_beam_is_to_choose_from():
    model = with_end(random_gpt2(0, vocab_size=2), [0, 1])
    with pytest.raises(UsageError, match=r"wants 3 tokens to choose from .* the vocabulary has 2; use one beam"):
        beam_search(model, [1], 3, num_beams=2)
    assert len(beam_search(model, [1], 3, num_beams=1).hypotheses[0].ids) == 1


def test_memory_that_runs_out_on_the_way_is_said(tiny, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory: you tried ...")

    monkeypatch.setattr(tiny, "generate", fail)
    with pytest.raises(LayerDecodingError, match="too small for 5 beams"):
        beam_search(tiny, PROMPT, 3)


# ---------------------------------------------------------------- on the way


def test_steps_of_all_searches_are_counted(tiny):
    for options, searches in [
        ({}, 2),
        ({"num_beams": 1}, 1),
        ({"layers": [2]}, 4),
        ({"no_repeat_ngram_size": 3}, 3),
        ({"no_repeat_ngram_size": 3, "num_beams": 1, "layers": [1, 4]}, 4),
    ]:
        told = []
        beam_search(tiny, PROMPT, 3, on_step=lambda step, _, told=told: told.append(step), **options)
        settings = {name: value for name, value in options.items() if name != "layers"}
        total = BeamSettings(3, **settings).steps(sum(layer != 4 for layer in options.get("layers", ())))
        assert told == list(range(1, total + 1)) == list(range(1, 3 * searches + 1))


def stopping_at(moment):
    def stop(step, _):
        if step == moment:
            raise KeyboardInterrupt

    return stop


def test_interrupted_in_the_main_search(tiny):
    with pytest.raises(Interrupted) as stopped:
        beam_search(tiny, PROMPT, 9, trace=True, on_step=stopping_at(4))
    result = stopped.value.result
    whole = beam_search(tiny, PROMPT, 9, trace=True)
    assert result.interrupted
    assert result.trace == whole.trace[:4]
    assert [text.ids for text in result.hypotheses] == [beam.ids for beam in whole.trace[3].live]
    assert [text.rank for text in result.hypotheses] == [1, 2, 3, 4, 5]
    assert result.greedy is None


def test_interrupted_in_greedy_decoding_keeps_the_search(tiny):
    with pytest.raises(Interrupted) as stopped:
        beam_search(tiny, PROMPT, 5, on_step=stopping_at(7))
    result, whole = stopped.value.result, beam_search(tiny, PROMPT, 5)
    assert [(text.rank, text.ids) for text in result.hypotheses] == [(text.rank, text.ids) for text in whole.hypotheses]
    assert result.greedy is None
    assert not result.interrupted


def test_interrupted_later_keeps_what_was_finished(tiny):
    with pytest.raises(Interrupted) as stopped:
        beam_search(tiny, PROMPT, 5, layers=[1, 2], on_step=stopping_at(27))
    result, whole = stopped.value.result, beam_search(tiny, PROMPT, 5, layers=[1, 2])
    assert (result.hypotheses, result.greedy) == (whole.hypotheses, whole.greedy)
    assert result.layers == whole.layers[:1]
    assert not result.interrupted


def test_interrupted_before_anything_was_found(tiny, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "generate", interrupt)
    with pytest.raises(Interrupted) as stopped:
        beam_search(tiny, PROMPT, 5)
    assert stopped.value.result is None
