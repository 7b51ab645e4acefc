"""Every tensor of a folder is used, or known to be of no account, or named in a refusal."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from layer_decoding import load_model
from model_folders import END, byte_tokenizer, edit_json, edit_weights, store_in_half
from refusals import assert_sentence, refusal

ATTENTION = "transformer.h.0.attn.c_attn"
BIT_8 = torch.float8_e4m3fn


def with_tensors(**tensors):
    """Adds tensors, a dot in whose names is written as two underscores."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return lambda folder: edit_weights(folder / "model.safetensors", lambda held: held.update(named))


def in_8_bits(folder: Path, *scales: str) -> None:
    """Weights as modelopt stores them: a factor beside each matrix."""

    def edit(tensors):
        for name in [name for name in tensors if name.endswith("c_attn.weight")]:
            tensors[name] = tensors[name].to(BIT_8)
            tensors.update({name + scale: torch.tensor(0.5) for scale in scales})

    edit_weights(folder / "model.safetensors", edit)


def modelopt(folder: Path) -> None:
    in_8_bits(folder, "_scale")
    edit_json(folder / "config.json", quantization_config={"quant_method": "modelopt", "quant_algo": "FP8"})


def header_says(new: str):
    def edit(folder: Path) -> None:
        store_in_half(folder)
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes().replace(b'"F16"', f'"{new}"'.encode()))

    return edit


LEFT_OVER = {
    "fp8-with-scales": (
        lambda folder: in_8_bits(folder, "_scale"),
        [f"{ATTENTION}.weight_scale", "1 more", "16 or 32"],
    ),
    "fp8-by-config": (modelopt, [f"{ATTENTION}.weight_scale", "quantised"]),
    "input-scale": (with_tensors(transformer__h__1__mlp__c_fc__input_scale=torch.ones(1)), ["c_fc.input_scale"]),
    "adapter": (with_tensors(transformer__h__1__mlp__c_fc__lora_A__weight=torch.ones(2, 2)), ["lora_A.weight"]),
    "a-norm-more": (with_tensors(transformer__h__0__ln_3__weight=torch.ones(16)), ["ln_3.weight", "no place"]),
    "whole-numbers": (header_says("I16"), ["is I16, whole numbers", "restore"]),
    "unsigned": (header_says("U16"), ["is U16, whole numbers", "restore"]),
    "more-words-than-there-are-numbers": (
        lambda folder: edit_json(folder / "config.json", vocab_size=10**11),
        ["numbers", "restore"],
    ),
    "more-positions": (lambda folder: edit_json(folder / "config.json", n_positions=10**11), ["numbers", "restore"]),
    "wider": (lambda folder: edit_json(folder / "config.json", n_embd=10**7), ["numbers", "restore"]),
    "a-billion-layers": (lambda folder: edit_json(folder / "config.json", n_layer=10**9), ["1,000,000,000", "restore"]),
    "a-billion-within": (
        lambda folder: edit_json(folder / "config.json", text_config={"num_hidden_layers": 10**9}),
        ["1,000,000,000", "restore"],
    ),
    "many-layers": (lambda folder: edit_json(folder / "config.json", n_layer=90_000), ["90,000 layers", "28 tensors"]),
}


@pytest.mark.parametrize("damage, words", LEFT_OVER.values(), ids=LEFT_OVER)
def test_what_the_model_would_run_without_is_named(damage, words, tiny_copy):
    damage(tiny_copy)
    assert_sentence(refusal(str(tiny_copy)), str(tiny_copy), *words)


HARMLESS = {
    "masks": with_tensors(
        transformer__h__0__attn__bias=torch.ones(1, 1, 32, 32).tril().to(torch.uint8),
        transformer__h__0__attn__masked_bias=torch.tensor(-1e4),
    ),
    "value-head": with_tensors(v_head__summary__weight=torch.ones(1, 16), v_head__summary__bias=torch.ones(1)),
    "classifier": with_tensors(score__weight=torch.ones(3, 16)),
    "fp8-without-scales": in_8_bits,
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_no_text_goes_through_is_no_reason(change, tiny_copy):
    change(tiny_copy)
    state = load_model(str(tiny_copy)).model.state_dict()
    held = load_file(tiny_copy / "model.safetensors")
    assert all(torch.equal(tensor, held[name].float()) for name, tensor in state.items() if name in held)


@pytest.mark.parametrize(
    "name, tensor, is_harmless",
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4), True),
        ("model.layers.1.input_layernorm.bias", torch.ones(16), False),
        ("model.layers.1.self_attn.q_norm.weight", torch.ones(8), False),
        ("model.layers.1.self_attn.bias", torch.ones(16), False),
    ],
)
def test_a_llama_with_one_tensor_more(name, tensor, is_harmless, tmp_path):
    sizes = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=32, max_position_embeddings=32)).save_pretrained(tmp_path)
    byte_tokenizer(END).save_pretrained(tmp_path)
    edit_weights(tmp_path / "model.safetensors", lambda held: held.update({name: tensor}))
    if is_harmless:
        assert load_model(str(tmp_path)).model.config.model_type == "llama"
    else:
        assert_sentence(refusal(str(tmp_path)), name)
