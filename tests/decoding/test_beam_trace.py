"""The trace of a beam search: every step's beams, as a plain search of our own has them."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reference
from conftest import random_gpt2, with_end
from layer_decoding import beam_search
from layer_decoding.decoding.beam_watcher import SearchRecord
from layer_decoding.results.beam import BeamSettings
from reference import library_search

PROMPT = [5, 17, 42, 8]


def plain_search(model, prompt, new, beams, ends=()):
    """Beam search as transformers defines it, by uncached passes: every step's (ids, sum, parent, state)."""
    live, finished, steps = [((), 0.0)], [], []
    for step in range(1, new + 1):
        candidates = []
        for parent, (ids, total) in enumerate(live):
            logprobs = reference.log_softmax64(model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0, -1])
            candidates += [((*ids, token), total + nats, parent) for token, nats in enumerate(logprobs.tolist())]
        candidates = sorted(candidates, key=lambda candidate: -candidate[1])[: max(2, 1 + len(ends)) * beams]
        following, rows = [], []
        for position, (ids, total, parent) in enumerate(candidates):
            state = "dropped"
            if ids[-1] in ends:
                if position < beams:
                    state = "finished"
                    finished.append(total / step)
            elif (position < beams) if step == new else (len(following) < beams):
                state = "live"
                following.append((ids, total))
            rows.append((ids, total, parent, state))
        steps.append(rows)
        live = following
        finished = sorted(finished, reverse=True)[:beams]
        if len(finished) == beams and live[0][1] / step <= finished[-1]:
            break
    return steps


@pytest.mark.parametrize("beams, end", [(2, None), (3, 11), (4, [11, 60])])
@pytest.mark.parametrize("seed", range(3))
def test_trace_is_the_plain_search(beams, end, seed):
    model = random_gpt2(seed)
    if end is not None:  # ends that the search does meet
        met = beam_search(model, PROMPT, 7, num_beams=beams).hypotheses[0].ids
        end = met[2] if isinstance(end, int) else sorted({met[1], met[4]})
    ends = {end} if isinstance(end, int) else set(end or ())
    search = beam_search(with_end(model, end), PROMPT, 7, num_beams=beams, trace=True)
    expected = plain_search(model, PROMPT, 7, beams, ends)
    assert [step.step for step in search.trace] == list(range(1, len(expected) + 1))
    for step, rows in zip(search.trace, expected, strict=True):
        assert [(beam.ids, beam.parent, beam.state) for beam in step.beams] == [(i, p, s) for i, _, p, s in rows]
        assert [beam.logprob_nats for beam in step.beams] == pytest.approx(
            [total for _, total, _, _ in rows], rel=1e-6, abs=1e-4
        )
    assert_trace_agrees(search)


def assert_trace_agrees(search):
    """Parents are prefixes; every hypothesis finished at some step or was live at the last, with the same sum."""
    before = [()]
    for step in search.trace:
        assert all(before[beam.parent] == beam.ids[:-1] for beam in step.beams)
        before = [beam.ids for beam in step.live]
    ended = {beam.ids: beam for step in search.trace for beam in step.beams if beam.state == "finished"}
    found = ended | {beam.ids: beam for beam in search.trace[-1].live}
    for text in search.hypotheses:
        assert found[text.ids].logprob_nats == pytest.approx(text.logprob_nats, rel=1e-6, abs=1e-4)
        assert text.finished == (found[text.ids].state == "finished")


def test_trace_with_the_ngram_rule_and_in_the_bundled_model(mini, prompt_ids):
    search = beam_search(mini.model, prompt_ids, 8, num_beams=4, no_repeat_ngram_size=2, trace=True)
    assert_trace_agrees(search)
    assert all(len(step.live) == 4 for step in search.trace)
    assert all(math.isfinite(beam.logprob_nats) for step in search.trace for beam in step.beams)


@given(st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_search_agrees_with_its_trace(data):
    model = random_gpt2(data.draw(st.integers(0, 20)), n_layer=1, vocab_size=13)
    ends = data.draw(st.lists(st.integers(0, 12), max_size=2, unique=True))
    beams, new = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    penalty = data.draw(st.sampled_from([-1.0, 0.0, 1.0, 2.5]))
    with_end(model, ends or None)
    search = beam_search(model, [1, 2], new, num_beams=beams, length_penalty=penalty, trace=True)
    assert_trace_agrees(search)
    if beams > 1:
        expected = library_search(
            model, [1, 2], new, num_beams=beams, num_return_sequences=beams, length_penalty=penalty
        )
        assert [text.ids for text in search.hypotheses] == [ids for ids, _ in expected]


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_among_equals_the_trace_follows_the_library(data):
    """Every token as likely as its twin, few tokens, few that do not end a text: topk chooses as it likes."""
    vocabulary = data.draw(st.integers(2, 9))
    model = random_gpt2(data.draw(st.integers(0, 20)), n_layer=1, vocab_size=vocabulary)
    half = vocabulary // 2
    model.lm_head.weight[half : 2 * half] = model.lm_head.weight[:half].clone() * data.draw(st.sampled_from([0, 1]))
    ends = data.draw(st.lists(st.integers(0, vocabulary - 1), max_size=vocabulary - 1, unique=True))
    with_end(model, ends or None)
    beams, new = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 6))
    search = beam_search(model, [0, 1], new, num_beams=beams, trace=True)
    assert_trace_agrees(search)
    assert all(set(ends).isdisjoint(text.ids[:-1]) for text in search.hypotheses)
    assert all(set(ends).isdisjoint(beam.ids[:-1]) for step in search.trace for beam in step.beams)


def test_what_the_library_goes_on_with_is_what_lives():
    """Two beams; of three equals the library goes on with the second and the third, which is told a step later."""
    record, nats = SearchRecord(1, BeamSettings(3, 2, 2), [9], keep_steps=True), math.log(0.1)
    logprobs = torch.full((2, 10), nats)
    record.read([[0], [0]], logprobs)
    record.take([[0, 4], [0, 5], [0, 6], [0, 9]])
    assert record.live == [(4,), (5,)]
    record.read([[0, 6], [0, 5]], logprobs)
    assert record.live == [(5,), (6,)]
    assert [beam.state for beam in record.steps[0].beams] == ["dropped", "live", "live", "dropped"]
    record.take([[0, 6, 9], [0, 5, 1], [0, 6, 2], [0, 5, 3]])
    assert [(beam.parent, beam.state) for beam in record.steps[1].beams] == [
        (1, "finished"), (0, "live"), (1, "live"), (0, "dropped")
    ]  # fmt: skip
    assert [beam.logprob_nats for beam in record.steps[1].beams] == pytest.approx([2 * nats] * 4)


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_bits_are_traced_and_ranked_by_the_scores_shown(seed):
    search = beam_search(random_gpt2(seed).bfloat16(), PROMPT, 8, num_beams=6, trace=True)
    before = [()]
    for step in search.trace:
        assert all(before[beam.parent] == beam.ids[:-1] for beam in step.beams)
        before = [beam.ids for beam in step.live]
    scores = [text.score for text in search.hypotheses]
    assert scores == sorted(scores, reverse=True)
    assert [text.rank for text in search.hypotheses] == [1, 2, 3, 4, 5, 6]


def test_states_by_hand():
    """Two beams, end-of-text 9: finished among the first two, dropped below; the next two others live on."""
    record = SearchRecord(1, BeamSettings(3, 2, 2), [9], keep_steps=False)
    record.take([[0, 4], [0, 9], [0, 5], [0, 6]])
    assert (record.live, record.finished) == ([(4,), (5,)], [(9,)])
    record.take([[0, 4, 1], [0, 5, 1], [0, 4, 9], [0, 5, 2]])
    assert (record.live, record.finished) == ([(4, 1), (5, 1)], [(9,)])
    record.take([[0, 4, 1, 9], [0, 4, 1, 2], [0, 5, 1, 2], [0, 5, 1, 9]])  # the last step: only the first two count
    assert (record.live, record.finished) == ([(4, 1, 2)], [(9,), (4, 1, 9)])
