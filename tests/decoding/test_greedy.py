"""Every layer's greedy text against plain transformers: both contexts, every layer, layer 0, end-of-text."""

import pytest
import torch

import reference
from conftest import random_gpt2, with_end
from layer_decoding import UsageError, decode_layers, truncate
from layer_decoding.errors import Interrupted, LayerDecodingError
from layer_decoding.lens.blocks import block_outputs
from layer_decoding.lens.lens import find_lens
from layer_decoding.models.generation import end_ids, neutral_generation, settings_set_aside

PROMPT = [5, 17, 42, 8]


def test_tiny_model_is_what_its_docstring_says(tiny):
    assert tiny.num_parameters() == 97 * 32 + 64 * 32 + 4 * (12 * 32**2 + 13 * 32) + 2 * 32 == 56_032


@pytest.mark.parametrize("context", ["shared", "own"])
def test_last_row_is_the_reference(mini, prompt_ids, context):
    decoding = decode_layers(mini.model, prompt_ids, 20, context=context)
    assert list(decoding.final_row.ids) == reference.greedy(mini.model, prompt_ids, 20)
    assert [row.layer for row in decoding.rows] == list(range(1, 13))


@pytest.mark.parametrize("seed", range(3))
def test_shared_rows_are_the_lens_on_the_final_text(seed):
    model = random_gpt2(seed)
    decoding = decode_layers(model, PROMPT, 12, layers=range(5))
    text = list(PROMPT)
    for step, final in enumerate(decoding.final_row.ids):
        expected = reference.lens_logits(model, text).argmax(-1).tolist()
        assert [row.ids[step] for row in decoding.rows] == expected
        text.append(final)


@pytest.mark.parametrize("seed", range(3))
def test_own_rows_are_the_greedy_texts_of_truncated_models(seed):
    model = random_gpt2(seed)
    decoding = decode_layers(model, PROMPT, 12, context="own", layers=range(5))
    for row in decoding.rows:
        # without blocks there is no cache to take the position from
        cut = truncate(model, row.layer)
        assert list(row.ids) == reference.greedy(cut, PROMPT, 12, use_cache=row.layer > 0), row.layer
    assert len({row.ids for row in decoding.rows}) > 1


def test_own_rows_of_the_bundled_model(mini, prompt_ids):
    decoding = decode_layers(mini.model, prompt_ids, 20, context="own")
    for row in decoding.rows:
        assert list(row.ids) == reference.greedy(truncate(mini.model, row.layer), prompt_ids, 20), row.layer


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_own_rows_with_every_attention_implementation(attention):
    model = random_gpt2(7)
    model.set_attn_implementation(attention)
    decoding = decode_layers(model, PROMPT, 8, context="own")
    for row in decoding.rows:
        assert list(row.ids) == reference.greedy(truncate(model, row.layer), PROMPT, 8)


def test_last_layer_logits_are_the_models_own(mini, prompt_ids):
    """Catches a final norm applied twice: it leaves argmax alone and moves the logits."""
    lens = find_lens(mini.model)
    with torch.inference_mode(), block_outputs(lens.blocks) as outputs:
        theirs = mini.model(torch.tensor([prompt_ids])).logits[0, -1]
        hidden = outputs[12]
    assert (lens.logits(hidden, [12])[0] - theirs).abs().max() <= 1e-4
    twice = lens.logits(mini.model.transformer.ln_f(hidden), [12])[0]
    assert (twice - theirs).abs().max() > 1e-2


def test_every_layer_logits_against_the_reference(tiny):
    lens = find_lens(tiny)
    with torch.inference_mode(), block_outputs(lens.blocks) as outputs:
        tiny(torch.tensor([PROMPT]))
        ours = lens.logits(torch.cat([outputs[layer] for layer in range(5)]), range(5))
    assert (ours - reference.lens_logits(tiny, PROMPT)).abs().max() <= 1e-4


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 12, 15, 16, 40])
def test_the_quick_head_is_the_plain_one(tiny, rows):
    hidden = torch.randn(rows, 32)
    logits = find_lens(tiny).logits(hidden, [4] * len(hidden))
    assert torch.allclose(logits, tiny.lm_head(tiny.transformer.ln_f(hidden)), atol=1e-5)
    assert logits.is_contiguous()


def test_a_lens_that_misses_the_models_logits_is_refused(tiny):
    class Biased(type(tiny)):
        """Logits that depend on more than the hidden state: here on the token that was read."""

        def forward(self, input_ids, past_key_values=None, **options):
            answer = super().forward(input_ids, past_key_values=past_key_values, **options)
            answer.logits = answer.logits + input_ids[:, -1:, None] * torch.arange(97) / 100
            return answer

    tiny.__class__ = Biased
    with pytest.raises(LayerDecodingError, match=r"misses the logits of Biased by"):
        decode_layers(tiny, PROMPT, 2)


def test_hooks_are_gone_afterwards(tiny):
    for context in ("shared", "own"):
        decode_layers(tiny, PROMPT, 3, context=context)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in tiny.transformer.h)


# ---------------------------------------------------------------- ties


@pytest.mark.parametrize("measures", [True, False])
@pytest.mark.parametrize("context", ["shared", "own"])
def test_the_lowest_id_of_equals(tiny, context, measures):
    tiny.lm_head.weight = torch.nn.Parameter(torch.zeros_like(tiny.lm_head.weight), requires_grad=False)
    decoding = decode_layers(tiny, PROMPT, 3, context=context, measures=measures)
    assert {row.ids for row in decoding.rows} == {(0, 0, 0)}


@pytest.mark.parametrize("seed", [2, 7, 57])
def test_where_rows_of_the_head_are_equal_the_lens_takes_the_lowest_id(seed):
    """The library's product of one row rounds the last columns otherwise: it may take the twin, and from there on
    another text. These are seeds in which it does."""
    model = random_gpt2(seed, vocab_size=50)
    model.transformer.wte.weight[25:] = model.transformer.wte.weight[:25].clone()
    ours, theirs = decode_layers(model, PROMPT[:3], 12).final_row.ids, reference.greedy(model, PROMPT[:3], 12)
    assert all(token < 25 for token in ours)
    parting = next((step for step in range(12) if ours[step] != theirs[step]), None)
    assert parting is None or theirs[parting] == ours[parting] + 25


# ---------------------------------------------------------------- end of text


def test_shared_text_ends_with_the_last_row():
    model = random_gpt2(1)
    free = decode_layers(model, PROMPT, 12)
    end = free.final_row.ids[4]
    stop = free.final_row.ids.index(end) + 1
    ended = decode_layers(with_end(model, end), PROMPT, 12)
    assert list(ended.final_row.ids) == reference.greedy(model, PROMPT, 12) == list(free.final_row.ids[:stop])
    assert ended.final_row.finished
    assert [row.ids for row in ended.rows] == [row.ids[:stop] for row in free.rows]
    assert all(row.finished == (row.ids[-1] == end) for row in ended.rows)
    assert all(len(row.logprob_nats) == len(row.ids) == len(ended.settles_at) for row in ended.rows)


def test_end_of_text_in_a_lower_row_is_only_a_token():
    model = random_gpt2(1)
    free = decode_layers(model, PROMPT, 12)
    lower = next(token for token in free.rows[0].ids if token not in free.final_row.ids)
    ended = decode_layers(with_end(model, lower), PROMPT, 12)
    assert [row.ids for row in ended.rows] == [row.ids for row in free.rows]
    assert not any(row.finished for row in ended.rows)


def test_own_texts_end_each_for_itself():
    model = random_gpt2(2)
    free = decode_layers(model, PROMPT, 12, context="own")
    end = free.rows[1].ids[3]
    newest = []
    ended = decode_layers(with_end(model, [end]), PROMPT, 12, context="own", on_step=lambda _, ids: newest.append(ids))
    for row, whole in zip(ended.rows, free.rows, strict=True):
        expected = whole.ids[: whole.ids.index(end) + 1] if end in whole.ids else whole.ids
        assert row.ids == expected
        assert row.finished == (end in whole.ids)
        assert len(row.entropy_bits) == len(row.candidates) == len(row.ids)
        assert tuple(step[row.layer] for step in newest if row.layer in step) == row.ids
    assert len({len(row.ids) for row in ended.rows}) > 1


# ---------------------------------------------------------------- what is asked for


def test_layers_are_sorted_once_each_and_the_last_always_there(tiny):
    whole = decode_layers(tiny, PROMPT, 6)
    some = decode_layers(tiny, PROMPT, 6, layers=[3, 1, 3])
    assert [row.layer for row in some.rows] == [1, 3, 4]
    assert some.settles_at == whole.settles_at
    for row in some.rows:
        assert row.ids == whole.rows[row.layer - 1].ids
        assert row.kl_to_final_bits == pytest.approx(whole.rows[row.layer - 1].kl_to_final_bits, abs=1e-5)


def test_settling_by_hand(tiny):
    decoding = decode_layers(tiny, PROMPT, 10)
    for step, settled in enumerate(decoding.settles_at):
        column = [row.ids[step] for row in decoding.rows]
        assert all(token == column[-1] for token in column[settled - 1 :])
        assert settled == 1 or column[settled - 2] != column[-1]


def test_tokens_only(tiny):
    row = decode_layers(tiny, PROMPT, 4, measures=False).rows[0]
    assert row.logprob_nats is row.entropy_bits is row.kl_to_final_bits is row.candidates is None


def test_own_context_knows_no_final_layer(tiny):
    decoding = decode_layers(tiny, PROMPT, 4, context="own")
    assert decoding.settles_at is None
    for row in decoding.rows:
        assert row.kl_to_final_bits is None
        assert row.final_token_rank is None
        assert len(row.logprob_nats) == len(row.entropy_bits) == 4


def test_steps_are_told_as_they_come(tiny):
    told = []
    decoding = decode_layers(tiny, PROMPT, 4, layers=[2], on_step=lambda step, ids: told.append((step, ids)))
    assert told == [(t + 1, {2: decoding.rows[0].ids[t], 4: decoding.rows[1].ids[t]}) for t in range(4)]


def test_interruption_keeps_what_was_finished(tiny):
    def stop_at_three(step, _):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        decode_layers(tiny, PROMPT, 9, on_step=stop_at_three)
    whole = decode_layers(tiny, PROMPT, 9)
    assert [row.ids for row in stopped.value.result.rows] == [row.ids[:3] for row in whole.rows]


@pytest.mark.parametrize(
    "prompt, new, options, sentence",
    [
        ([], 3, {}, "The prompt is empty"),
        ([1] * 64, 1, {}, "The prompt has 64 tokens and the model's context holds 64"),
        ([1] * 60, 5, {}, "at most 4 new tokens"),
        (PROMPT, 0, {}, "must be at least 1"),
        (PROMPT, 3, {"layers": [5, 9]}, r"Layer 5, 9 is out of range; this model has layers 1 to 4"),
        (PROMPT, 3, {"layers": [-1]}, "Layer -1 is out of range"),
        (PROMPT, 3, {"context": "both"}, "must be 'shared' or 'own'"),
        (PROMPT, 3, {"candidates": 0}, "candidates is 0"),
        ([1, 97], 3, {}, "Token id 97 is not in the model's vocabulary of 97 tokens"),
        (PROMPT, 3, {"track": [-1]}, "Token id -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny, prompt, new, options, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        decode_layers(tiny, prompt, new, **options)
    assert "\n" not in str(refused.value)


def test_the_whole_context_can_be_used(tiny):
    assert list(decode_layers(tiny, [1] * 60, 4).final_row.ids) == reference.greedy(tiny, [1] * 60, 4)


# ---------------------------------------------------------------- truncation


@pytest.mark.parametrize("layer", range(1, 5))
def test_truncated_model_gives_the_lens_of_that_layer(tiny, layer):
    ids = torch.tensor([PROMPT])
    assert torch.allclose(
        truncate(tiny, layer)(ids).logits[0, -1], reference.lens_logits(tiny, PROMPT)[layer], atol=1e-5
    )


def test_truncation_is_a_view(tiny):
    before = reference.greedy(tiny, PROMPT, 5)
    cut = truncate(tiny, 2)
    assert cut.config.num_hidden_layers == 2
    assert cut.transformer.h[0] is tiny.transformer.h[0]
    assert cut.lm_head.weight is tiny.lm_head.weight
    assert (tiny.config.num_hidden_layers, len(tiny.transformer.h)) == (4, 4)
    assert reference.greedy(tiny, PROMPT, 5) == before
    assert truncate(cut, 1).config.num_hidden_layers == 1
    with pytest.raises(UsageError, match="Cannot cut after layer 5"):
        truncate(tiny, 5)


# ---------------------------------------------------------------- the model's own settings


def test_shipped_generation_settings_are_set_aside(tiny):
    before = decode_layers(tiny, PROMPT, 8).final_row.ids
    tiny.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=1, eos_token_id=96)
    assert settings_set_aside(tiny) == {"no_repeat_ngram_size": 1, "repetition_penalty": 5.0}
    shipped = tiny.generation_config
    with neutral_generation(tiny):
        assert settings_set_aside(tiny) == {}
        ids = torch.tensor([PROMPT])
        out = tiny.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert tiny.generation_config is shipped
    assert tuple(out[0, 4:].tolist()) == before == decode_layers(tiny, PROMPT, 8).final_row.ids


@pytest.mark.parametrize("end", [7, [7, 3]])
def test_end_ids_come_from_the_configuration_where_the_generation_settings_name_none(tiny, end):
    assert end_ids(tiny) == []
    tiny.config.eos_token_id = end
    assert end_ids(tiny) == ([7] if end == 7 else [7, 3])
    tiny.generation_config.eos_token_id = 5
    assert end_ids(tiny) == [5]


def test_bundled_model_ships_no_settings(mini):
    assert settings_set_aside(mini.model) == {}


# ---------------------------------------------------------------- sixteen bits


@pytest.mark.parametrize("context", ["shared", "own"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_measures_of_sixteen_bit_models_are_in_float32(tiny, dtype, context):
    """All probabilities of a step add up to 1 as nearly as float32 can; those of bfloat16 are off by a hundredth."""
    decoding = decode_layers(tiny.to(dtype), PROMPT, 4, context=context, candidates=97)
    for row in decoding.rows:
        for step, candidates in enumerate(row.candidates):
            probabilities = torch.tensor([each.probability for each in candidates], dtype=torch.float64)
            assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
            entropy = float(-(probabilities * probabilities.log2()).nan_to_num().sum())
            assert row.entropy_bits[step] == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize("spoil", [lambda hidden: hidden.roll(1, 0), lambda hidden: hidden[:1].expand_as(hidden)])
def test_own_context_is_refused_where_a_block_mixes_up_the_rows(tiny, spoil):
    """A cut in the wrong place shows in the last row, which is compared with the model alone."""
    block = tiny.transformer.h[1]
    block.register_forward_pre_hook(lambda _, args: (spoil(args[0]), *args[1:]))
    with pytest.raises(LayerDecodingError, match=r"in a batch that grows smaller is off by \d+\.\d%"):
        decode_layers(tiny, PROMPT, 4, context="own")
