"""Steps that are all alike, as a CUDA graph wants them, against the ordinary ones: the same texts and numbers."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from check_cuda import differences
from families import FAMILIES, LLAMA
from layer_decoding import decode_layers
from layer_decoding.layers import HalfStep
from layer_decoding.lens.lens import find_lens
from static_text import StaticText, static_steps

PROMPT, NEW = [5, 17, 42, 8, 3, 9, 77], 12
BY_NAME = {family.name: family for family in FAMILIES}
BY_NAME["Mistral, no window"] = replace(BY_NAME["Mistral"], sizes=LLAMA | {"sliding_window": None})


def is_static(model):
    """Whether a model's steps are all alike."""
    with torch.inference_mode(), ExitStack() as stack:
        states = StaticText(find_lens(model), [4], stack, places=9)
        states.start(PROMPT)
        return states.static is not None


@pytest.mark.parametrize(
    "name", ["GPT-2", "Llama", "Qwen2", "Qwen3", "Gemma", "Mistral, no window", "GPT-NeoX, Pythia", "OPT"]
)
def test_static_steps_are_the_ordinary_ones(name):
    model = BY_NAME[name].build()
    options = {"layers": [0, 1, 2, HalfStep(3), 3], "track": [3, 50], "candidates": 97}
    ordinary = decode_layers(model, PROMPT, NEW, **options)
    assert is_static(model)
    with static_steps(places=30):  # more than are needed
        texts, gap, moved = differences(decode_layers(model, PROMPT, NEW, **options), ordinary)
    assert (texts, moved) == (0, 0)
    assert gap < 1e-5


@pytest.mark.parametrize("name", ["Mistral", "Gemma 2", "LFM2", "BLOOM"])
def test_where_steps_cannot_be_alike_they_are_ordinary(name):
    """Sliding windows, a state, a bias by distance: a cache that does not grow would change what they say, or fail."""
    model = BY_NAME[name].build()
    assert not is_static(model)
    ordinary = decode_layers(model, PROMPT, NEW)
    with static_steps(places=19):
        assert decode_layers(model, PROMPT, NEW) == ordinary
