"""What guards every run: the lens against the model's own logits, which modules are the blocks, a model that is cut."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import reference
from conftest import random_gpt2
from layer_decoding import LayerDecodingError, decode_layers, truncate
from layer_decoding.decoding.text.along import read_layers
from layer_decoding.lens.blocks import find_blocks

PROMPT = [5, 17, 42, 8]


# ---------------------------------------------------------------- off by a little


def off_by(model, share, of):
    """A model whose own logits differ from what its norm and head say, one of them by a share of their size."""

    class Off(type(model)):
        def forward(self, input_ids, past_key_values=None, **options):
            answer = super().forward(input_ids, past_key_values=past_key_values, **options)
            if len(input_ids[0]) > 1:  # the pass over the prompt; the lens itself reads single rows
                answer.logits = answer.logits.clone()
                answer.logits[..., 3] += share * of(answer.logits)
            return answer

    model.__class__ = Off
    return model


def spread(logits):
    return logits.max() - logits.min()


@pytest.mark.parametrize("scale", [0.01, 1, 100])
@pytest.mark.parametrize("share", [1, 0.01, 1e-4])
def test_a_lens_that_is_off_is_refused_whatever_the_size_of_the_logits(share, scale):
    model = random_gpt2()
    model.transformer.ln_f.weight *= scale
    model.transformer.ln_f.bias *= scale
    with pytest.raises(LayerDecodingError, match="misses the logits of Off by"):
        decode_layers(off_by(model, share, spread), PROMPT, 2)


def test_rounding_is_not_refused():
    model = off_by(random_gpt2(), 1e-6, lambda logits: logits.abs().max())
    assert len(decode_layers(model, PROMPT, 2).final_row.ids) == 2


def test_large_logits_round_by_more():
    """Width 2,048 and a final norm of 30: the largest logit is about 300, and sums of such terms round by 1e-4."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4000, hidden_size=2048, intermediate_size=8, num_hidden_layers=1, num_attention_heads=16,
        num_key_value_heads=1, initializer_range=0.05, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    model.model.norm.weight *= 30
    for first in range(4):
        prompt = [first, 17, 42]
        assert list(decode_layers(model, prompt, 2, measures=False).final_row.ids) == reference.greedy(model, prompt, 2)


def test_the_lens_along_a_text_is_checked(tiny):
    with pytest.raises(LayerDecodingError, match="misses the logits of Off"):
        read_layers(off_by(tiny, 0.01, spread), [*PROMPT, 3, 9], range(4, 6))


# ---------------------------------------------------------------- which modules are the blocks


@pytest.mark.parametrize("first", [True, False])
def test_of_several_lists_of_that_length_the_blocks_are_the_heaviest(first):
    model = random_gpt2()
    expected = decode_layers(model, PROMPT, 4)
    modules = model.transformer._modules
    small = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in range(4))
    reordered = {"small": small} | modules if first else modules | {"small": small}
    modules.clear()
    modules.update(reordered)
    assert find_blocks(model).modules is model.transformer.h
    assert decode_layers(model, PROMPT, 4) == expected


def test_a_block_that_runs_twice_is_refused(tiny):
    tiny.transformer.h[2] = tiny.transformer.h[1]
    with pytest.raises(LayerDecodingError, match="GPT2LMHeadModel runs more than once a token"):
        decode_layers(tiny, PROMPT, 2)


def test_a_block_that_hands_on_several_states_is_refused(tiny):
    tiny.transformer.h[1].register_forward_hook(lambda _module, _args, output: output[:, None])
    tiny.transformer.h[2].register_forward_pre_hook(lambda _module, args: (args[0][:, 0], *args[1:]))
    with pytest.raises(LayerDecodingError, match="GPT2LMHeadModel hands on more than a hidden state"):
        decode_layers(tiny, PROMPT, 2)


# ---------------------------------------------------------------- a cut model


def test_a_cut_model_that_says_something_else_is_refused(tiny):
    """One that scales its embeddings by how many blocks it has is another model when it is cut."""

    class Scaled(type(tiny.transformer)):
        def forward(self, input_ids, **options):
            options["inputs_embeds"] = self.wte(input_ids) * self.config.num_hidden_layers
            return super().forward(**options)

    tiny.transformer.__class__ = Scaled
    assert len(decode_layers(tiny, PROMPT, 2).final_row.ids) == 2
    with pytest.raises(LayerDecodingError, match=r"cut after block 2 is off by \d+\.\d%"):
        truncate(tiny, 2)


def test_blocks_that_share_keys_and_values_are_not_separated(tiny):
    tiny.config.num_kv_shared_layers = 1
    for separated in (lambda: truncate(tiny, 2), lambda: decode_layers(tiny, PROMPT, 2, context="own")):
        with pytest.raises(LayerDecodingError, match="share keys and values"):
            separated()
