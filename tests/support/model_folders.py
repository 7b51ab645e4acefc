"""A tiny model as a folder holds it, and what can be changed or damaged in there."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
VOCAB_SIZE = 260
PICKLE = b"\x80\x02}q\x00."


def byte_tokenizer(
    *specials: str, template: str | None = None, merges: Sequence[tuple[str, str]] = ()
) -> PreTrainedTokenizerFast:
    """One token a byte, one a merge, then the special tokens; `template` says what is put around a text."""
    symbols = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    backend = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(specials))
    if template:
        ids = [(special, backend.token_to_id(special)) for special in specials]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def tiny_config(**changes) -> GPT2Config:
    shape = {"vocab_size": VOCAB_SIZE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2Config(**(shape | {"bos_token_id": 256, "eos_token_id": 256} | changes))


def save_tiny(folder: Path) -> None:
    """A random GPT-2 of 2 blocks as save_pretrained writes it, with a tokenizer of single bytes."""
    torch.manual_seed(0)
    GPT2LMHeadModel(tiny_config()).save_pretrained(folder)
    byte_tokenizer(END).save_pretrained(folder)
    # as gpt2 has it on the Hub: which token ends a text is in the model's config alone
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 32}')


def edit_json(file: Path, **changes) -> None:
    """Set keys of a JSON file; a key set to None is removed."""
    document = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def edit_weights(file: Path, edit) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def shard(folder: Path) -> None:
    """Split the weights of `folder` over several files with an index."""
    model = GPT2LMHeadModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")


# ---------------------------------------------------------------- changes of form only


def add_attention_masks(folder: Path) -> None:
    edit_weights(
        folder / "model.safetensors",
        lambda tensors: tensors.update({f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 32, 32) for i in range(2)}),
    )


def store_in_half(folder: Path) -> None:
    edit_weights(folder / "model.safetensors", lambda t: t.update({name: t[name].half() for name in t}))
    edit_json(folder / "config.json", dtype="float16")


# ---------------------------------------------------------------- damage


def without(*names: str):
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def pickle_instead(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(PICKLE)


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def shard_missing(folder: Path) -> None:
    shard(folder)
    sorted(folder.glob("model-*.safetensors"))[-1].unlink()


def index_without_map(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
