"""Models whose positions depend on how long the text is: right on either side of the length, refused across it."""

import pytest
import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

import reference
from families import LLAMA, NO_IDS
from layer_decoding import UsageError, beam_search, decode_layers, sample
from refusals import assert_sentence

LENGTH, CONTEXT = 16, 64
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0, 6.0, 8.0, 9.0]}
KINDS = {
    "phi3": {"original_max_position_embeddings": LENGTH, "rope_parameters": LONGROPE},  # drops its cache there
    "llama": {"rope_parameters": LONGROPE | {"original_max_position_embeddings": LENGTH, "factor": 4.0}},  # keeps it
}
WAYS = {
    "shared": lambda model, prompt, new: decode_layers(model, prompt, new).final_row.ids,
    "own": lambda model, prompt, new: decode_layers(model, prompt, new, context="own").final_row.ids,
    "beam": lambda model, prompt, new: beam_search(model, prompt, new, num_beams=2).greedy.ids,
    "sampling": lambda model, prompt, new: sample(model, prompt, new, temperature=0).samples[0].ids,
}


def build(kind, **parameters):
    config_class = CONFIG_MAPPING[kind]
    torch.manual_seed(0)
    config = config_class(vocab_size=97, initializer_range=0.3, **(LLAMA | NO_IDS | KINDS.get(kind, {}) | parameters))
    return MODEL_FOR_CAUSAL_LM_MAPPING[config_class](config).eval().requires_grad_(False)


def prompt_of(length):
    return [7 * place % 97 for place in range(length)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_across_the_length_is_refused(kind, way):
    model = build(kind)
    for prompt, new in ((10, 24), (10, 8), (16, 2)):
        with pytest.raises(UsageError, match=f"ask for at most {17 - prompt} new tokens") as refused:
            WAYS[way](model, prompt_of(prompt), new)
        assert_sentence(str(refused.value), f"{prompt} prompt tokens and {new} new ones", f"length of {LENGTH}")
        assert refused.value.settings == ("max_new_tokens",)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_on_either_side_it_is_right(kind, way):
    model = build(kind)
    for prompt, new in ((10, 7), (16, 1), (17, 8)):
        expected = reference.plain_greedy(model, prompt_of(prompt), new)
        assert (
            list(WAYS[way](model, prompt_of(prompt), new))
            == expected
            == reference.greedy(model, prompt_of(prompt), new)
        )


def test_beams_on_either_side_are_scored_as_read():
    model = build("phi3")
    for prompt, new in ((10, 6), (17, 6)):  # the reference reads the last token too
        for text in beam_search(model, prompt_of(prompt), new, num_beams=3).hypotheses:
            expected = reference.text_logprobs(model, prompt_of(prompt), text.ids)
            assert text.token_logprob_nats == pytest.approx(expected, abs=1e-4)


def test_a_kind_of_layers_of_its_own_is_asked_too():
    model = build("llama")
    model.config.rope_parameters = {"sliding_attention": {"rope_type": "default"}, "full": model.config.rope_parameters}
    with pytest.raises(UsageError, match=f"length of {LENGTH}"):
        decode_layers(model, prompt_of(10), 24)


def test_dynamic_positions_change_beyond_the_context_alone():
    model = build("llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0})
    prompt, new = prompt_of(50), CONTEXT - 50
    assert list(decode_layers(model, prompt, new).final_row.ids) == reference.plain_greedy(model, prompt, new)
    with pytest.raises(UsageError, match="more than the 64 of the model's context"):
        decode_layers(model, prompt, new + 1)
