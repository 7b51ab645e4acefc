"""A text that branches: the same numbers as a fresh reading of it, and nothing read twice."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import MistralConfig, MistralForCausalLM

from conftest import random_gpt2
from fitted import some_lens
from layer_decoding import decode_layers, read_layers
from layer_decoding.decoding import explorer as module
from layer_decoding.decoding.explorer import CANDIDATES, Explorer
from layer_decoding.errors import UsageError
from layer_decoding.layers import HalfStep
from layer_decoding.lens import lens as lens_module
from layer_decoding.lens.inside.parts import find_parts
from layer_decoding.results.greedy import joined, with_fewer_candidates

PROMPT = [5, 17, 3]


def assert_near(ours, theirs, tolerance=3e-6):
    """The same tokens everywhere, numbers as near as cached steps and one pass round, which `decode_layers` shares."""
    assert (ours.text_ids, ours.settles_at) == (theirs.text_ids, theirs.settles_at)
    for mine, yours in zip(ours.rows, theirs.rows, strict=True):
        assert (mine.layer, mine.ids, mine.final_token_rank) == (yours.layer, yours.ids, yours.final_token_rank)
        for step, other in zip(mine.candidates, yours.candidates, strict=True):
            assert [candidate.id for candidate in step] == [candidate.id for candidate in other]
            assert [c.probability for c in step] == pytest.approx([c.probability for c in other], abs=tolerance)
        for field in ("logprob_nats", "entropy_bits", "kl_to_final_bits", "surprise_bits"):
            assert getattr(mine, field) == pytest.approx(getattr(yours, field), abs=100 * tolerance), field


def read_afresh(model, prompt, written):
    return read_layers(
        model, [*prompt, *written], range(len(prompt), len(prompt) + len(written)), candidates=CANDIDATES
    )


@pytest.fixture
def reads(monkeypatch):
    """How many tokens each pass through the blocks has read."""
    counted, read_on = [], module.read_on

    def count(model, ids, cache, **options):
        counted.append(ids.shape[1])
        return read_on(model, ids, cache, **options)

    monkeypatch.setattr(module, "read_on", count)
    return counted


def test_written_by_the_last_layer_it_is_a_decoding(tiny):
    explorer, written = Explorer(tiny, PROMPT), ()
    for _ in range(6):
        written += explorer.steps(written)[-1].text_ids
    ours = joined(explorer.steps(written), PROMPT, 6)
    assert with_fewer_candidates(ours, 5) == decode_layers(tiny, PROMPT, 6)
    assert ours == decode_layers(tiny, PROMPT, 6, candidates=CANDIDATES)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 96), min_size=1, max_size=5).map(tuple), min_size=1, max_size=6), st.data())
def test_whatever_was_tried_before_it_is_a_fresh_reading(texts, data):
    """Texts that begin alike by chance or by construction, in any order, some of them dropped on the way."""
    model = random_gpt2()
    explorer = Explorer(model, PROMPT, layers=[0, 2])
    for text in texts:
        start = data.draw(st.sampled_from(texts))[: data.draw(st.integers(0, 5))]
        written = (*start, *text)
        steps = explorer.steps(written)
        ours = joined(steps, PROMPT, len(written))
        fresh = read_layers(
            model, [*PROMPT, *written], range(3, 3 + len(written)), layers=[0, 2], candidates=CANDIDATES
        )
        assert_near(ours, fresh)
        if data.draw(st.booleans()):
            explorer.keep([written])
            assert len(explorer.caches) == 1


def test_nothing_is_read_twice(tiny, reads):
    explorer = Explorer(tiny, PROMPT)
    first = explorer.steps((1, 2, 3, 4))
    explorer.steps((1, 2))  # taken back
    explorer.steps((1, 2, 9, 8))  # a branch
    assert explorer.steps((1, 2, 3, 4)) == first  # and back to the first
    explorer.steps((1, 2, 9, 8, 7))  # which goes on where it was
    explorer.steps((1, 2, 3, 4, 5))
    assert reads == [1] * 8


def test_one_cache_a_text_that_is_kept(tiny, reads):
    explorer = Explorer(tiny, PROMPT)
    for text in [(1, 2, 3), (1, 4), (6, 7)]:
        explorer.steps(text)
    explorer.keep([(1, 2), (6, 7)])
    assert set(explorer.caches) == {(1, 2, 3), (6, 7)}
    del reads[:]
    explorer.steps((1, 2, 3, 4))
    assert reads == [1]


def test_a_read_that_failed_leaves_nothing_wrong_behind(tiny, monkeypatch):
    explorer = Explorer(tiny, PROMPT)
    explorer.steps((1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(module, "stacked", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            explorer.steps((1, 2, 3))
    assert explorer.caches == {}
    assert_near(joined(explorer.steps((1, 2, 3)), PROMPT, 3), read_afresh(tiny, PROMPT, (1, 2, 3)))


def test_what_cannot_be_taken_back_is_read_again(reads):
    """Keys that have left a sliding window are gone: what a branch needs is read from the prompt on."""
    config = MistralConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
        initializer_range=0.3,
    )
    model = MistralForCausalLM(config).eval().requires_grad_(False)
    explorer = Explorer(model, PROMPT)
    explorer.steps((1, 2, 3, 4))
    del reads[:]
    ours = joined(explorer.steps((1, 2, 9)), PROMPT, 3)
    assert reads == [3, 2, 1]
    assert_near(ours, read_afresh(model, PROMPT, (1, 2, 9)), 1e-5)


def test_a_layers_own_text_is_that_of_own_context(tiny):
    explorer = Explorer(tiny, PROMPT)
    own = decode_layers(tiny, [*PROMPT, 9], 5, context="own", measures=False)
    for row in own.rows:
        assert explorer.own_text((9,), row.layer, 5) == row.ids
    explorer.steps((9, 1, 2))  # nothing is left on the blocks that the two share


def test_half_steps_are_rows_too_but_write_no_text(tiny):
    layers = [1, HalfStep(3)]
    explorer = Explorer(tiny, PROMPT, layers=layers)
    ours = joined(explorer.steps((1, 2, 3)), PROMPT, 3)
    assert_near(ours, read_layers(tiny, [*PROMPT, 1, 2, 3], range(3, 6), layers=layers, candidates=CANDIDATES))
    with pytest.raises(UsageError, match="Layer 3a is inside a block"):
        explorer.own_text((1,), HalfStep(3), 5)


def test_what_blocks_are_made_of_is_found_once(tiny, monkeypatch):
    found = []
    monkeypatch.setattr(lens_module, "find_parts", lambda blocks: found.append(blocks) or find_parts(blocks))
    explorer = Explorer(tiny, PROMPT, layers=[HalfStep(2)])
    explorer.steps((7, 8, 9))
    assert len(found) == 1


def test_the_context_fills_up(tiny):
    """The last token that fits can still be looked at, and what would come after it."""
    prompt = [1] * 60
    explorer = Explorer(tiny, prompt)
    steps = explorer.steps((2, 3, 4, 5))
    assert_near(
        joined(steps, prompt, 5),
        read_layers(tiny, [*prompt, 2, 3, 4, 5, *steps[-1].text_ids], range(60, 65), candidates=10),
    )
    with pytest.raises(UsageError, match=r"context of 64 tokens is full, 60 of them the prompt's"):
        explorer.steps((2, 3, 4, 5, 6))
    with pytest.raises(UsageError, match="is full"):
        explorer.own_text((2, 3, 4, 5), 2, 20)
    assert len(explorer.own_text((2, 3), 2, 20)) == 2


def test_prompts_that_fill_it_and_more(tiny):
    full = Explorer(tiny, [1] * 64)
    assert len(full.steps(())) == 1
    with pytest.raises(UsageError, match="is full"):
        full.steps((1,))
    with pytest.raises(UsageError, match="65 tokens"):
        Explorer(tiny, [1] * 65)
    with pytest.raises(UsageError, match="empty"):
        Explorer(tiny, [])
    with pytest.raises(UsageError, match="97 is not in"):
        Explorer(tiny, [97])
    with pytest.raises(UsageError, match="97 is not in"):
        Explorer(tiny, [1]).steps((97,))


def test_another_lens_leaves_the_last_layer_alone_and_is_kept_beside_the_plain_one(tiny, reads):
    explorer = Explorer(tiny, PROMPT, lenses={"plain": None, "turned": some_lens(tiny)})
    plain, turned = explorer.steps((1, 2)), explorer.steps((1, 2), "turned")
    assert reads == [1, 1]
    assert [step.final_row for step in plain] == [step.final_row for step in turned]
    assert [step.rows[0].ids for step in plain] != [step.rows[0].ids for step in turned]
    assert explorer.steps((1, 2)) == plain
