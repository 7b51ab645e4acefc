"""A NaN or an infinity in the weights, or an overflow on the way, ends in one sentence wherever it shows first."""

import math

import pytest
import torch

from conftest import random_gpt2
from layer_decoding import LayerDecodingError, beam_search, decode_layers, measure_text, sample
from layer_decoding.decoding.text.along import read_layers
from refusals import assert_sentence

PROMPT = [5, 17, 42, 8]
NEW = 5
TEXT = [*PROMPT, *range(20, 20 + NEW)]
WAYS = {
    "shared": lambda model: decode_layers(model, PROMPT, NEW),
    "shared, tokens only": lambda model: decode_layers(model, PROMPT, NEW, measures=False),
    "own": lambda model: decode_layers(model, PROMPT, NEW, context="own"),
    "own, tokens only": lambda model: decode_layers(model, PROMPT, NEW, context="own", measures=False),
    "one beam": lambda model: beam_search(model, PROMPT, NEW, num_beams=1),
    "beams": lambda model: beam_search(model, PROMPT, NEW, num_beams=3),
    "beams with a rule": lambda model: beam_search(model, PROMPT, NEW, num_beams=3, no_repeat_ngram_size=2),
    "beams on a layer": lambda model: beam_search(model, PROMPT, NEW, num_beams=3, layers=[2]),
    "samples": lambda model: sample(model, PROMPT, NEW, num_samples=2),
    "cold samples": lambda model: sample(model, PROMPT, NEW, temperature=0),
    "text": lambda model: measure_text(model, TEXT),
    "passage": lambda model: read_layers(model, TEXT, range(1, len(TEXT))),
    "passage, tokens only": lambda model: read_layers(model, TEXT, range(1, len(TEXT)), measures=False),
}


def assert_not_finite(way, model):
    with pytest.raises(LayerDecodingError, match="gives no finite logits") as refused:
        WAYS[way](model)
    assert refused.value.exit_code == 1
    assert refused.value.settings == ("dtype",)
    assert_sentence(str(refused.value), "restore its files", "float32")


@pytest.mark.parametrize(
    "place, wrong",
    [
        ("ln_f.weight", math.inf),
        ("ln_f.bias", -math.inf),
        ("wte.weight", math.nan),
        ("h.1.mlp.c_proj.weight", math.inf),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_in_the_weights(way, place, wrong):
    model = random_gpt2()
    model.transformer.get_parameter(place).view(-1)[7] = wrong
    assert_not_finite(way, model)


@pytest.mark.parametrize("position", [len(PROMPT), len(PROMPT) + 2])
@pytest.mark.parametrize("way", WAYS)
def test_at_a_later_token(way, position):
    """The prompt is read without it: nothing but the later step itself can show it."""
    model = random_gpt2()
    model.transformer.wpe.weight[position] = math.nan
    assert_not_finite(way, model)


@pytest.mark.parametrize("way", WAYS)
def test_sixteen_bits_that_overflow(way):
    model = random_gpt2().half()
    model.transformer.h[2].mlp.c_fc.weight *= 100
    model.transformer.h[2].mlp.c_proj.weight *= 1000
    assert_not_finite(way, model)


def test_a_layer_that_is_not_finite_below_a_last_one_that_is(tiny):
    """The last block's output is made anew from nothing."""
    tiny.transformer.h[1].register_forward_hook(lambda _module, _args, output: output * math.inf)
    tiny.transformer.h[3].register_forward_hook(lambda _module, _args, output: torch.ones_like(output))
    for way in ("shared", "shared, tokens only", "text"):
        assert_not_finite(way, tiny)
