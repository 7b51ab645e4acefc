"""Each way in which a folder can fall short, and the sentence with which it is refused."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tokenizers import Tokenizer, models

from model_folders import (
    END,
    PICKLE,
    byte_tokenizer,
    cut_short,
    edit_json,
    edit_weights,
    index_without_map,
    pickle_instead,
    shard_missing,
    without,
)
from refusals import assert_sentence, refusal


def config_with(**changes):
    return lambda folder: edit_json(folder / "config.json", **changes)


def written(name: str, content: str | bytes):
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def empty_of_tensors(folder: Path) -> None:
    save_file({}, folder / "model.safetensors")


def index_of_pickles(folder: Path) -> None:
    shard_missing(folder)
    index = folder / "model.safetensors.index.json"
    edit_json(index, weight_map=dict.fromkeys(json.loads(index.read_text())["weight_map"], "weights.bin"))
    (folder / "weights.bin").write_bytes(PICKLE)


def tensors_missing(folder: Path) -> None:
    def edit(tensors):
        for name in [name for name in tensors if ".h.1." in name]:
            del tensors[name]

    edit_weights(folder / "model.safetensors", edit)


def tokenizer_of_another_model(folder: Path) -> None:
    backend = byte_tokenizer(END).backend_tokenizer
    vocab = {token: index + 100 for token, index in backend.get_vocab().items()}
    other = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    other.pre_tokenizer = backend.pre_tokenizer
    other.save(str(folder / "tokenizer.json"))


def tokenizer_settings(**settings):
    return lambda folder: edit_json(folder / "tokenizer_config.json", **settings)


def sentencepiece_only(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>")
    edit_json(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")


def tokenizer_without_tokens(folder: Path) -> None:
    Tokenizer(models.BPE()).save(str(folder / "tokenizer.json"))


DAMAGE = {
    "no-config": (without("config.json"), ["no config.json", "save_pretrained"]),
    "config-not-json": (written("config.json", '{"model_type": '), ["config.json", "cannot be read", "restore"]),
    "config-not-text": (written("config.json", b"\xff\xfe\x00"), ["config.json", "cannot be read", "restore"]),
    "config-a-list": (written("config.json", "[]"), ["config.json", "no JSON object", "restore"]),
    "config-without-type": (config_with(model_type=None), ["config.json", 'no "model_type"', "restore"]),
    "config-of-unknown-type": (config_with(model_type="gpt3"), ['"gpt3"', "transformers", "newer"]),
    "layers-in-words": (config_with(n_layer="two"), ["config.json", "'two'", "restore"]),
    "no-layers": (config_with(n_layer=0), ["num_hidden_layers as 0", "impossible", "restore"]),
    "negative-vocabulary": (config_with(vocab_size=-1), ["vocab_size as -1", "impossible", "restore"]),
    "no-heads": (config_with(n_head=0), ["num_attention_heads as 0", "impossible", "restore"]),
    "heads-that-do-not-divide": (config_with(n_head=3), ["cannot be built", "16", "3", "restore"]),
    "no-weights": (without("model.safetensors"), ["no model.safetensors", "copy the weights"]),
    "pickle-only": (pickle_instead, ["pytorch_model.bin", "pickle", "any code", "save_pretrained"]),
    "weights-cut-short": (cut_short, ["model.safetensors", "bytes", "cut short", "copy it again"]),
    "weights-garbage": (written("model.safetensors", b"\xff" * 100), ["100 bytes", "damaged", "copy it again"]),
    "weights-an-lfs-pointer": (written("model.safetensors", "version https://git-lfs"), ["23 bytes", "copy it again"]),
    "weights-empty-file": (written("model.safetensors", ""), ["0 bytes", "damaged", "copy it again"]),
    "weights-without-tensors": (empty_of_tensors, ["no weights at all", "copy it again"]),
    "shard-missing": (shard_missing, ["lacks model-0", "index", "copy that file"]),
    "index-of-pickles": (index_of_pickles, ["index.json", "names weights.bin", "no safetensors file", "restore"]),
    "index-without-map": (index_without_map, ["index.json", "names no weight files", "copy it again"]),
    "tensors-missing": (tensors_missing, ["12 of the tensors", "transformer.h.1.", "restore"]),
    "wider-by-config": (
        config_with(n_embd=18),
        ["c_attn.weight is 16 × 48 in the file", "18 × 54 by the config", "restore"],
    ),
    "more-layers-by-config": (config_with(n_layer=3), ["12 of the tensors", "transformer.h.2.", "restore"]),
    "fewer-layers-by-config": (config_with(n_layer=1), ["1 layers", "transformer.h.1.", "restore"]),
    "head-not-tied": (config_with(tie_word_embeddings=False), ["1 of the tensors", "lm_head.weight", "restore"]),
    "no-tokenizer": (without("tokenizer.json"), ["holds no tokenizer", "copy tokenizer.json"]),
    "vocab-without-merges": (
        lambda folder: (folder / "tokenizer.json").rename(folder / "vocab.json"),
        ["holds no tokenizer", "merges.txt"],
    ),
    "tokenizer-not-json": (written("tokenizer.json", "{"), ["tokenizer", "cannot be read", "again"]),
    "tokenizer-of-nothing": (written("tokenizer.json", "{}"), ["tokenizer", "cannot be read", "again"]),
    "tokenizer-config-not-json": (written("tokenizer_config.json", "{"), ["tokenizer", "cannot be read", "again"]),
    "tokenizer-of-another-model": (tokenizer_of_another_model, ["ids up to 353", "ends at 259", "trained with"]),
    "tokenizer-length-in-words": (tokenizer_settings(model_max_length="x"), ["tokenizer", "cannot be read", "again"]),
    "tokenizer-unknown-is-nothing": (tokenizer_settings(unk_token=""), ["tokenizer", "cannot be read", "again"]),
    "tokenizer-needs-a-package": (sentencepiece_only, ["package sentencepiece", "pip install sentencepiece"]),
    "tokenizer-without-tokens": (tokenizer_without_tokens, ["no token at all", "again"]),
}


def adapter(folder: Path) -> None:
    without("config.json", "model.safetensors")(folder)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    save_file({}, folder / "adapter_model.safetensors")


def adapter_beside_config(folder: Path) -> None:
    without("model.safetensors")(folder)
    (folder / "adapter_config.json").write_text("{}")


def only_gguf(folder: Path) -> None:
    without("config.json")(folder)
    (folder / "model.gguf").touch()


def biogpt(folder: Path) -> None:
    without("tokenizer.json")(folder)
    (folder / "vocab.json").write_text('{"<s>": 0}')
    (folder / "merges.txt").write_text("")
    edit_json(folder / "tokenizer_config.json", tokenizer_class="BioGptTokenizer")


def quantised(**how):
    return config_with(quantization_config=how)


# What is wrong is not the files, and restoring them would not help.
NOT_DAMAGED = {
    "adapter": (adapter, ["PEFT adapter for some/base", "merge"]),
    "adapter-and-config": (adapter_beside_config, ["PEFT adapter for another model", "merge"]),
    "gguf": (only_gguf, ["model.gguf", "give that file"]),
    "biogpt": (biogpt, ["package sacremoses", "pip install sacremoses"]),
    "bitsandbytes": (quantised(quant_method="bitsandbytes", load_in_4bit=True), ["(bitsandbytes)", "pip install bits"]),
    "gptq": (quantised(quant_method="gptq", bits=4), ["(gptq)", "pip install optimum"]),
    "awq": (quantised(quant_method="awq", bits=4), ["(awq)", "pip install gptqmodel"]),
    "compressed": (quantised(quant_method="compressed-tensors"), ["pip install compressed-tensors,"]),
    "hqq": (quantised(quant_method="hqq"), ["(hqq)", "16 or 32 bits"]),
    "torchao": (quantised(quant_method="torchao"), ["(torchao)", "16 or 32 bits"]),
    "no-method": (quantised(bits=4), ["(unknown)", "16 or 32 bits"]),
    "flash": (config_with(_attn_implementation="flash_attention_2"), ["attention flash_attention_2", "take attn_impl"]),
    "flash-3": (
        config_with(attn_implementation="flash_attention_3"),
        ["attention flash_attention_3", "take attn_impl"],
    ),
    "flex": (config_with(attn_implementation="flex_attention"), ["attention flex_attention", "take attn_impl"]),
}


@pytest.mark.parametrize("change, words", NOT_DAMAGED.values(), ids=NOT_DAMAGED)
def test_a_folder_that_is_not_damaged_but_cannot_be_used(change, words, tiny_copy):
    change(tiny_copy)
    message = refusal(str(tiny_copy))
    assert_sentence(message, str(tiny_copy), *words)
    assert "restore" not in message


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damaged_folder_is_refused_in_one_sentence(damage, words, tiny_copy):
    damage(tiny_copy)
    assert_sentence(refusal(str(tiny_copy)), str(tiny_copy), *words)


@pytest.mark.parametrize(
    "model_type, reason",
    [
        ("bert", "an encoder"),
        ("roberta", "an encoder"),
        ("distilbert", "an encoder"),
        ("xlnet", "an encoder"),
        ("bert-generation", "an encoder"),
        ("t5", "an encoder-decoder"),
        ("bart", "an encoder-decoder"),
        ("vit", "no causal language model"),
        ("mamba", "not a stack of attention blocks"),
        ("rwkv", "not a stack of attention blocks"),
        ("xlstm", "not a stack of attention blocks"),
    ],
)
def test_other_architectures_are_refused_by_name(model_type, reason, tiny_copy):
    (tiny_copy / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert_sentence(refusal(str(tiny_copy)), str(tiny_copy), model_type, reason, "causal decoder such as gpt2")
