"""Log-probabilities of given texts against one uncached pass a text."""

import pytest
import torch
from transformers import AttentionInterface

import reference
from conftest import random_gpt2
from families import FAMILIES
from layer_decoding import truncate
from layer_decoding.decoding.scoring import texts_logprobs, token_logprobs


def plain(model, prompt, ids):
    logprobs = reference.log_softmax64(model(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0])
    return [logprobs[len(prompt) - 1 + step, token].item() for step, token in enumerate(ids)]


TEXTS = [
    [[1, 2, 3]],
    [[1, 2, 3], [1, 2, 3]],
    [[1, 2, 3], [1, 2], [1, 2, 9, 8, 7]],
    [[3, 4], [5]],
    [[1], [2], [3]],
    [[], [4]],
    [[]],
    [],
    [[*range(50)], [*range(59)], [7, 7]],
]


@pytest.mark.parametrize("rows", [256, 7, 1])
@pytest.mark.parametrize("layer", [0, 1, 4])
@pytest.mark.parametrize("prompt", [[5], [5, 17, 42, 8]])
def test_texts_of_any_shape(rows, layer, prompt, monkeypatch):
    monkeypatch.setattr("layer_decoding.decoding.scoring._LOGIT_ROWS", rows)
    model = truncate(random_gpt2(), layer)
    for texts in TEXTS:
        found = texts_logprobs(model, prompt, texts)
        assert [len(nats) for nats in found] == [len(ids) for ids in texts]
        for nats, ids in zip(found, texts, strict=True):
            assert nats == pytest.approx(plain(model, prompt, ids) if ids else [], abs=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", ["gpt2", "another"])
def test_together_and_text_by_text_with_every_attention(attention, model_type, monkeypatch):
    model = random_gpt2(3)
    model.set_attn_implementation(attention)
    monkeypatch.setattr(model.config, "model_type", model_type)
    texts = [[1, 2, 3, 4], [1, 2, 9], [1, 7, 3, 4], [8]]
    for nats, ids in zip(texts_logprobs(model, [5, 6], texts), texts, strict=True):
        assert nats == pytest.approx(plain(model, [5, 6], ids), abs=1e-4)


def attend_to_all_before(_module, query, key, value, _mask, **_options):
    """An attention that takes no mask, as flash attention takes none: causal, and no more."""
    lower = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, lower).transpose(1, 2), None


def with_another_attention(name):
    AttentionInterface.register(name, attend_to_all_before)
    model = random_gpt2()
    model.config._attn_implementation = name
    return model


ONLY_ONE_SEQUENCE = {
    "an attention without masks": lambda: with_another_attention("flash_like"),
    "ALiBi": lambda: family("Falcon, ALiBi"),
    "local attention by place": lambda: family("GPT-Neo"),
    "a sliding window": lambda: family("StarCoder2"),
    "positions that follow from the mask": lambda: family("BLOOM"),
    "convolutions": lambda: family("LFM2"),
}


def family(name):
    return next(each for each in FAMILIES if each.name == name).build()


@pytest.mark.parametrize("what", ONLY_ONE_SEQUENCE)
def test_models_that_know_one_sequence_read_text_by_text(what):
    model, prompt = ONLY_ONE_SEQUENCE[what](), [5, 17, 42, 8, 3, 9]
    texts = [[1, 2, 3, 4, 5, 6], [1, 2, 9, 8, 7], [1, 7, 3, 4], [8]]
    for nats, ids in zip(texts_logprobs(model, prompt, texts), texts, strict=True):
        assert nats == pytest.approx(plain(model, prompt, ids), abs=1e-4)


def test_what_texts_share_is_read_once(monkeypatch):
    model, reads = random_gpt2(), []
    forward = model.transformer.forward

    def counted(input_ids, **options):
        reads.append(input_ids.shape[1])
        return forward(input_ids, **options)

    monkeypatch.setattr(model.transformer, "forward", counted)
    texts_logprobs(model, [5, 6], [[1, 2, 3, 4], [1, 2, 9], [1, 7, 3, 4], [1, 2, 3, 4]])
    assert reads == [2 + 5]  # the prompt, then 1, 1 2, 1 2 3, 1 7 and 1 7 3; the last tokens are only asked for


@pytest.mark.parametrize("prompt", [[5], [5, 17, 42, 8]])
def test_the_prompts_cache_of_a_search_is_taken_over(prompt):
    model, texts = random_gpt2(), [[1, 2, 3, 4], [1, 2, 9], [8]]
    ids = torch.tensor([prompt])
    answer = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, num_beams=3, return_dict_in_generate=True
    )
    found = texts_logprobs(model, prompt, texts, answer.past_key_values)
    for nats, text in zip(found, texts, strict=True):
        assert nats == pytest.approx(plain(model, prompt, text), abs=1e-4)


def test_one_text_of_the_bundled_model(mini, prompt_ids):
    ids = reference.greedy(mini.model, prompt_ids, 20)
    assert token_logprobs(mini.model, prompt_ids, ids) == pytest.approx(plain(mini.model, prompt_ids, ids), abs=1e-4)


def test_the_whole_context_can_be_scored(tiny):
    assert token_logprobs(tiny, [1] * 60, [2, 3, 4, 5]) == pytest.approx(plain(tiny, [1] * 60, [2, 3, 4, 5]), abs=1e-4)


def test_half_precision_is_summed_in_single(tiny):
    half = tiny.to(torch.bfloat16)
    logits = half(torch.tensor([[5, 1, 2]]), use_cache=False).logits[0].float().log_softmax(-1)
    assert token_logprobs(half, [5], [1, 2]) == pytest.approx([logits[0, 1].item(), logits[1, 2].item()], abs=0.05)
