"""Beam search against transformers, against a plain search of our own, and against every text there is."""

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

import reference
from conftest import random_gpt2
from layer_decoding import beam_search, truncate
from layer_decoding.decoding.beam_watcher import SearchRecord
from layer_decoding.decoding.text import read_layers
from layer_decoding.errors import Interrupted, LayerDecodingError, UsageError
from layer_decoding.models.sizes import cache_bytes, score_bytes
from layer_decoding.results.beam import BeamSettings
from reference import library_search
from reference import text_logprobs as plain_logprobs

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


def with_end(model, end):
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    return model


def assert_scored(model, prompt, text):
    """The log-probabilities are a plain pass's."""
    assert text.token_logprob_nats == pytest.approx(plain_logprobs(model, prompt, text.ids), abs=1e-4)
    assert text.logprob_nats == pytest.approx(sum(text.token_logprob_nats), abs=1e-9)


# ---------------------------------------------------------------- the library's search


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"length_penalty": 0.0},
        {"length_penalty": -1.5},
        {"length_penalty": 2.0, "num_beams": 4},
        {"no_repeat_ngram_size": 2, "num_beams": 2},
    ],
)
@pytest.mark.parametrize("seed, ends_at", [(3, []), (3, [4]), (0, [1]), (2, [4, 7])])
def test_hypotheses_are_the_librarys(options, seed, ends_at):
    model = random_gpt2(seed)
    best = beam_search(model, PROMPT, 10).hypotheses[0].ids
    end = [best[position] for position in ends_at]  # tokens that the search does meet
    with_end(model, end or None)
    search = beam_search(model, PROMPT, 10, **options)
    options = {"num_beams": 5} | options
    options.setdefault("num_return_sequences", options["num_beams"])
    expected = library_search(model, PROMPT, 10, **options)
    assert [text.ids for text in search.hypotheses] == [ids for ids, _ in expected]
    assert [text.score for text in search.hypotheses] == pytest.approx(
        [score for _, score in expected], rel=1e-6, abs=1e-4
    )
    assert [text.rank for text in search.hypotheses] == list(range(1, len(expected) + 1))
    for text in search.hypotheses:
        assert_scored(model, PROMPT, text)
        assert text.finished == (text.ids[-1] in end)
        assert text.score == pytest.approx(
            text.logprob_nats / len(text.ids) ** options.get("length_penalty", 1.0), rel=1e-9
        )


def test_a_search_that_ends_early_and_one_with_texts_of_every_kind():
    """Keeps the parity above from being empty."""
    model = random_gpt2(0)
    with_end(model, beam_search(model, PROMPT, 10).hypotheses[0].ids[1])
    search = beam_search(model, PROMPT, 10, trace=True)
    assert all(text.finished for text in search.hypotheses)
    assert len(search.trace) < 10
    model = random_gpt2(3)
    with_end(model, beam_search(model, PROMPT, 10).hypotheses[0].ids[4])
    search = beam_search(model, PROMPT, 10)
    assert {text.finished for text in search.hypotheses} == {True, False}
    assert len({len(text.ids) for text in search.hypotheses}) > 1


def test_the_bundled_model(mini, prompt_ids):
    search = beam_search(mini.model, prompt_ids, 12, num_beams=4)
    expected = library_search(mini.model, prompt_ids, 12, num_beams=4, num_return_sequences=4)
    assert [text.ids for text in search.hypotheses] == [ids for ids, _ in expected]
    assert [text.score for text in search.hypotheses] == pytest.approx(
        [score for _, score in expected], rel=1e-6, abs=1e-4
    )
    for text in search.hypotheses:
        assert_scored(mini.model, prompt_ids, text)
    assert list(search.greedy.ids) == reference.greedy(mini.model, prompt_ids, 12)
    assert search == beam_search(mini.model, prompt_ids, 12, num_beams=4)


@pytest.mark.parametrize("end", [None, 11])
def test_one_beam_is_greedy(end):
    model = random_gpt2(4)
    if end is not None:
        end = reference.greedy(model, PROMPT, 9)[4]
    search = beam_search(with_end(model, end), PROMPT, 9, num_beams=1, trace=True)
    (only,) = search.hypotheses
    assert list(only.ids) == list(search.greedy.ids) == reference.greedy(model, PROMPT, 9)
    assert only.finished == search.greedy.finished == (end is not None)
    assert_scored(model, PROMPT, only)
    assert [step.beams[0].ids for step in search.trace] == [only.ids[: t + 1] for t in range(len(only.ids))]
    assert search.trace[-1].beams[0].state == ("finished" if end is not None else "live")
    assert search.trace[-1].beams[0].logprob_nats == pytest.approx(only.logprob_nats, abs=1e-9)


def test_greedy_beside_it_is_the_references_and_scored():
    model = random_gpt2(5)
    search = beam_search(model, PROMPT, 9, no_repeat_ngram_size=1)
    assert list(search.greedy.ids) == reference.greedy(model, PROMPT, 9)
    assert_scored(model, PROMPT, search.greedy)


def test_shipped_generation_settings_are_set_aside(tiny):
    before = beam_search(tiny, PROMPT, 8)
    tiny.generation_config.update(repetition_penalty=5.0, length_penalty=3.0, num_beams=2, early_stopping=True)
    shipped = tiny.generation_config
    assert beam_search(tiny, PROMPT, 8) == before
    assert tiny.generation_config is shipped


def test_no_token_of_the_prompt_is_read_again_for_the_scores(tiny, monkeypatch):
    reads = []
    forward = tiny.transformer.forward

    def counted(input_ids, **options):
        reads.append(input_ids.shape[1])
        return forward(input_ids, **options)

    monkeypatch.setattr(tiny.transformer, "forward", counted)
    search = beam_search(tiny, [1] * 40, 4, num_beams=3)
    texts = {text.ids for text in (*search.hypotheses, search.greedy)}
    nodes = {ids[:length] for ids in texts for length in range(1, 4)}
    assert reads == [40, 1, 1, 1, 40, 1, 1, 1, 1 + len(nodes)]


# ---------------------------------------------------------------- against every text there is


def markov_gpt2(table):
    """A GPT-2 whose next-token probabilities are the rows of a table: all it has is a head that looks them up."""
    vocabulary, hidden = len(table), 2 * len(table)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=16, n_embd=hidden, n_layer=1, n_head=1, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for parameter in model.transformer.parameters():
        parameter.zero_()
    model.transformer.ln_f.weight.fill_(1)
    model.transformer.wte.weight.copy_(torch.eye(vocabulary, hidden))
    seen = model.transformer.ln_f(model.transformer.wte.weight).double()  # [V, D], rows independent
    model.lm_head.weight.copy_((torch.linalg.pinv(seen) @ torch.tensor(table).double().log()).T)
    return model


# After 0, token 1 is likelier than 2; but what follows 2 is nearly certain, and what follows 1 is anybody's guess.
TABLE = [[0.01, 0.55, 0.43, 0.01], [0.28, 0.24, 0.24, 0.24], [0.02, 0.02, 0.02, 0.94], [0.25, 0.25, 0.25, 0.25]]


def test_greedy_misses_the_best_text_and_beam_search_finds_it():
    model = markov_gpt2(TABLE)
    chances = {
        ids: math.prod(TABLE[before][token] for before, token in itertools.pairwise((0, *ids)))
        for ids in itertools.product(range(4), repeat=2)
    }
    best = max(chances, key=chances.get)
    assert best == (2, 3)
    search = beam_search(model, [0], 2, num_beams=2)
    assert search.greedy.ids == (1, 0)
    assert [text.ids for text in search.hypotheses] == [best, (1, 0)]
    assert search.hypotheses[0].logprob_nats == pytest.approx(math.log(0.43 * 0.94), abs=1e-4)
    assert search.greedy.logprob_nats == pytest.approx(math.log(0.55 * 0.28), abs=1e-4)
    assert search.hypotheses[0].score == pytest.approx(math.log(0.43 * 0.94) / 2, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_are_an_exhaustive_search(seed):
    model = random_gpt2(seed, vocab_size=5)
    search = beam_search(model, [1, 4], 3, num_beams=25)
    everything = {ids: sum(plain_logprobs(model, [1, 4], ids)) for ids in itertools.product(range(5), repeat=3)}
    ranked = sorted(everything, key=everything.get, reverse=True)
    assert [text.ids for text in search.hypotheses] == ranked[:25]


def test_more_beams_than_texts():
    search = beam_search(random_gpt2(0, vocab_size=5), [1], 1, num_beams=9, trace=True)
    assert sorted(text.ids for text in search.hypotheses) == [(token,) for token in range(5)]
    assert sorted(beam.ids for beam in search.trace[0].beams) == [(token,) for token in range(5)]


# ---------------------------------------------------------------- the n-gram rule


def ngrams(ids, size):
    return [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice_and_the_rules_price_is_known(size):
    model, prompt = random_gpt2(6), [5, 17, 5, 17, 8]
    search = beam_search(model, prompt, 12, num_beams=3, no_repeat_ngram_size=size)
    for text in search.hypotheses:
        generated = ngrams([*prompt, *text.ids], size)[len(prompt) - size + 1 :]
        before = ngrams(prompt, size)
        assert len(set(generated)) == len(generated)
        assert not set(generated) & set(before)
        assert_scored(model, prompt, text)
    free = beam_search(model, prompt, 12, num_beams=3).hypotheses[0]
    assert search.unrestricted.ids == free.ids
    assert search.unrestricted.score == pytest.approx(free.score, abs=1e-5)
    assert beam_search(model, prompt, 12).unrestricted is None


@pytest.mark.parametrize("beams", [1, 2])
def test_a_rule_that_leaves_nothing(beams):
    with pytest.raises(UsageError, match="No 8 tokens can follow without repeating 1 ") as refused:
        beam_search(random_gpt2(0, vocab_size=5), [1], 8, num_beams=beams, no_repeat_ngram_size=1)
    assert refused.value.settings == ("max_new_tokens", "no_repeat_ngram_size")


def test_a_rule_that_leaves_just_enough():
    search = beam_search(random_gpt2(0, vocab_size=5), [1], 4, num_beams=1, no_repeat_ngram_size=1)
    assert sorted(search.hypotheses[0].ids) == [0, 2, 3, 4]


# ---------------------------------------------------------------- the trace


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


# ---------------------------------------------------------------- layers and lens


def test_layers_are_the_same_search_on_the_model_cut_there():
    model = random_gpt2(8)
    search = beam_search(model, PROMPT, 6, num_beams=3, layers=[3, 1])
    assert [found.layer for found in search.layers] == [1, 3, 4]
    for found in search.layers:
        cut = truncate(model, found.layer)
        expected = library_search(cut, PROMPT, 6, num_beams=3, num_return_sequences=3)
        assert [text.ids for text in found.hypotheses] == [ids for ids, _ in expected]
        assert list(found.greedy.ids) == reference.greedy(cut, PROMPT, 6)
        for text in (*found.hypotheses, found.greedy):
            assert_scored(cut, PROMPT, text)
    assert search.layers[-1].hypotheses == search.hypotheses
    assert [found.layer for found in beam_search(model, PROMPT, 2, layers=None).layers] == [1, 2, 3, 4]
    assert beam_search(model, PROMPT, 2).layers == ()


def test_the_embeddings_alone_can_be_searched():
    model = random_gpt2(8)
    found = beam_search(model, PROMPT, 4, num_beams=3, layers=[0]).layers[0]
    cut = truncate(model, 0)
    expected = library_search(cut, PROMPT, 4, num_beams=3, num_return_sequences=3, use_cache=False)
    assert [text.ids for text in found.hypotheses] == [ids for ids, _ in expected]
    for text in found.hypotheses:
        assert_scored(cut, PROMPT, text)


def along_best(model, prompt, search):
    """Every layer along the best hypothesis."""
    ids = [*prompt, *search.hypotheses[0].ids]
    return read_layers(model, ids, range(len(prompt), len(ids)))


def test_every_layer_along_the_best_text():
    model = random_gpt2(9)
    search = beam_search(model, PROMPT, 8, num_beams=4)
    best, read = search.hypotheses[0], along_best(model, PROMPT, search)
    assert not any(block._forward_hooks for block in model.transformer.h)
    assert [row.layer for row in read.rows] == [1, 2, 3, 4]
    for step in range(8):
        tops = reference.lens_logits(model, [*PROMPT, *best.ids[:step]]).argmax(-1).tolist()
        assert [row.ids[step] for row in read.rows] == tops[1:]
    surprise = math.fsum(read.final_row.surprise_bits)
    assert -surprise * math.log(2) == pytest.approx(best.logprob_nats, abs=1e-3)


def test_even_the_last_layer_can_disagree_with_a_beam():
    model = markov_gpt2(TABLE)
    search = beam_search(model, [0], 2, num_beams=2)
    read = along_best(model, [0], search)
    assert (read.final_row.ids, read.text_ids) == ((1, 3), (2, 3))
    assert read.correct(read.final_row) == (False, True)


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
