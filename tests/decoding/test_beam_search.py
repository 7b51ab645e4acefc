"""Beam search against transformers, and against every text there is."""

import itertools
import math

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import reference
from conftest import random_gpt2, with_end
from layer_decoding import beam_search, truncate
from layer_decoding.decoding.text.along import read_layers
from layer_decoding.errors import UsageError
from layer_decoding.lens import quick
from reference import library_search
from reference import text_logprobs as plain_logprobs

PROMPT = [5, 17, 42, 8]


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


def test_every_beam_goes_through_quick_products(monkeypatch):
    rows_seen, product = set(), quick.product

    def counted(rows, *args, **options):
        rows_seen.add(len(rows))
        return product(rows, *args, **options)

    monkeypatch.setattr(quick, "product", counted)
    beam_search(random_gpt2(), PROMPT, 3, num_beams=7)
    assert {1, 7} <= rows_seen  # greedy's, and the search's


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
