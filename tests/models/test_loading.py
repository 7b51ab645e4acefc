"""A folder that is in order: whose weights and tokenizer come out of it, in whatever form it holds them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from layer_decoding.models.loading import load_model
from layer_decoding.models.prompts import encode_prompt
from model_folders import (
    END,
    VOCAB_SIZE,
    add_attention_masks,
    byte_tokenizer,
    edit_json,
    edit_weights,
    shard,
    store_in_half,
)
from refusals import assert_sentence, refusal


def test_folder_gives_its_own_weights_ready_to_decode(tiny_folder):
    notices: list[str] = []
    loaded = load_model(str(tiny_folder), on_notice=notices.append)
    expected = load_file(tiny_folder / "model.safetensors")
    state = loaded.model.state_dict()
    assert {name for name in state if name not in expected} == {"lm_head.weight"}
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.name, loaded.device, loaded.dtype, loaded.revision) == (str(tiny_folder), "cpu", "float32", None)
    assert loaded.notes == tuple(notices)
    assert len(notices) == 1
    assert_sentence(notices[0], str(tiny_folder), "cpu (no GPU was found)", "float32 (the default on a CPU)")


def test_end_of_text_is_named_where_only_the_config_says_so(tiny_folder):
    assert load_model(str(tiny_folder)).tokenizer.eos_token == END


# ---------------------------------------------------------------- forms of a folder


def leave_as_is(_folder: Path) -> None: ...


def name_without_prefix(folder: Path) -> None:
    def edit(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    edit_weights(folder / "model.safetensors", edit)


def split_tokenizer(folder: Path) -> None:
    vocab = byte_tokenizer(END).get_vocab()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def spoil_generation_settings(folder: Path) -> None:
    (folder / "generation_config.json").write_text("{")


GOOD = [
    pytest.param(leave_as_is, id="tied-head"),
    pytest.param(add_attention_masks, id="attention-masks-left-over"),
    pytest.param(name_without_prefix, id="names-as-on-the-Hub"),
    pytest.param(store_in_half, id="float16-file"),
    pytest.param(shard, id="sharded"),
    pytest.param(split_tokenizer, id="vocab-and-merges"),
    pytest.param(spoil_generation_settings, id="broken-generation-settings"),
]


@pytest.mark.parametrize("change", GOOD)
def test_folder_that_differs_in_form_only(change, tiny_copy, tiny_folder):
    change(tiny_copy)
    plain, loaded = load_model(str(tiny_folder)), load_model(str(tiny_copy))
    ids = encode_prompt(loaded.tokenizer, "Once é" + END)
    assert ids == encode_prompt(plain.tokenizer, "Once é" + END)
    assert ids[-1] == 256
    expected, state = plain.model.state_dict(), loaded.model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, atol=1e-4, rtol=1e-3)


def test_gpt2_tokenizer_json_is_taken_as_it_stands(tiny_copy):
    """transformers' own choice of class drops the normaliser and the whole words, without a word about it."""
    backend = Tokenizer(models.WordLevel({END: 0, "once": 1, "upon": 2, "?": 3}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([END])
    backend.save(str(tiny_copy / "tokenizer.json"))
    assert encode_prompt(load_model(str(tiny_copy)).tokenizer, "once upon a") == [1, 2, 3]
    assert AutoTokenizer.from_pretrained(tiny_copy).encode("once upon a") != [1, 2, 3]


# ---------------------------------------------------------------- which architectures


def small_model(kind: str):
    sizes = {"vocab_size": VOCAB_SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=32, max_position_embeddings=32))
    return BertLMHeadModel(BertConfig(**sizes, intermediate_size=32, max_position_embeddings=32, is_decoder=True))


@pytest.mark.parametrize("kind", ["llama", "bert-as-decoder"])
def test_causal_decoders_are_accepted(kind, tmp_path):
    model = small_model(kind)
    model.save_pretrained(tmp_path)
    byte_tokenizer(END).save_pretrained(tmp_path)
    assert load_model(str(tmp_path)).model.config.model_type == model.config.model_type


@pytest.mark.parametrize("model_type", ["gpt2", "of-its-own"])
def test_code_beside_a_model_is_never_run(model_type, tiny_copy, tmp_path):
    marker = tmp_path / "run"
    code = f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
    (tiny_copy / "custom.py").write_text(code)
    classes = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    edit_json(tiny_copy / "config.json", model_type=model_type, auto_map=classes)
    if model_type == "gpt2":
        assert type(load_model(str(tiny_copy)).model) is GPT2LMHeadModel
    else:
        assert_sentence(refusal(str(tiny_copy)), str(tiny_copy), "of-its-own", "never run")
    assert not marker.exists()
