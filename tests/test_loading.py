"""Where a model comes from, what is refused and in which words: folders, the cache, a Hub on this machine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from conftest import SOURCE
from layer_decoding import checkpoint, devices, hub, loading, locating
from layer_decoding.errors import LayerDecodingError, UsageError, is_out_of_memory
from layer_decoding.loading import load_model, pick_device, pick_dtype, quiet_libraries
from layer_decoding.prompts import encode_prompt

END = "<|endoftext|>"
VOCAB_SIZE = 260
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PICKLE = b"\x80\x02}q\x00."


def byte_tokenizer(*specials: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a byte, then the special tokens; `template` says what is put around a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(specials))
    if template:
        ids = [(special, backend.token_to_id(special)) for special in specials]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def save_tokenizer(folder: Path) -> None:
    byte_tokenizer(END).save_pretrained(folder)
    # as gpt2 has it on the Hub: which token ends a text is in the model's config alone
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 32}')


def tiny_config(**changes) -> GPT2Config:
    shape = {"vocab_size": VOCAB_SIZE, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2Config(**(shape | {"bos_token_id": 256, "eos_token_id": 256} | changes))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A random GPT-2 of 2 blocks as save_pretrained writes it, with a tokenizer of single bytes. Not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    torch.manual_seed(0)
    GPT2LMHeadModel(tiny_config()).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def copy(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny model, to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


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


def assert_sentence(message: str, *words: str) -> None:
    """One sentence, and each of `words` in it."""
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"\. [A-Z]", message), message
    for word in words:
        assert word in message


def refusal(*args, **kwargs) -> str:
    """The message with which load_model refuses; exit code 1."""
    with pytest.raises(LayerDecodingError) as caught:
        load_model(*args, **kwargs)
    assert caught.value.exit_code == 1
    return str(caught.value)


# -- a folder that is in order ----------------------------------------------------------------------


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


def test_folder_that_one_stands_in(tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    assert load_model(".").model.config.n_layer == 2


def test_end_of_text_is_named_where_only_the_config_says_so(tiny_folder):
    assert load_model(str(tiny_folder)).tokenizer.eos_token == END


def leave_as_is(_folder: Path) -> None: ...


def add_attention_masks(folder: Path) -> None:
    edit_weights(
        folder / "model.safetensors",
        lambda tensors: tensors.update({f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 32, 32) for i in range(2)}),
    )


def name_without_prefix(folder: Path) -> None:
    def edit(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)

    edit_weights(folder / "model.safetensors", edit)


def store_in_half(folder: Path) -> None:
    edit_weights(folder / "model.safetensors", lambda t: t.update({name: t[name].half() for name in t}))
    edit_json(folder / "config.json", dtype="float16")


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
def test_folder_that_differs_in_form_only(change, copy, tiny_folder):
    change(copy)
    plain, loaded = load_model(str(tiny_folder)), load_model(str(copy))
    ids = encode_prompt(loaded.tokenizer, "Once é" + END)
    assert ids == encode_prompt(plain.tokenizer, "Once é" + END)
    assert ids[-1] == 256
    expected, state = plain.model.state_dict(), loaded.model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, atol=1e-4, rtol=1e-3)


def test_gpt2_tokenizer_json_is_taken_as_it_stands(copy):
    """transformers' own choice of class drops the normaliser and the whole words, without a word about it."""
    backend = Tokenizer(models.WordLevel({END: 0, "once": 1, "upon": 2, "?": 3}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens([END])
    backend.save(str(copy / "tokenizer.json"))
    assert encode_prompt(load_model(str(copy)).tokenizer, "once upon a") == [1, 2, 3]
    assert AutoTokenizer.from_pretrained(copy).encode("once upon a") != [1, 2, 3]


# -- which architectures ----------------------------------------------------------------------------


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
def test_other_architectures_are_refused_by_name(model_type, reason, copy):
    (copy / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert_sentence(refusal(str(copy)), str(copy), model_type, reason, "causal decoder such as gpt2")


@pytest.mark.parametrize("model_type", ["gpt2", "of-its-own"])
def test_code_beside_a_model_is_never_run(model_type, copy, tmp_path):
    marker = tmp_path / "run"
    code = f"open({str(marker)!r}, 'w')\nclass Config: ...\nclass Model: ...\n"
    (copy / "custom.py").write_text(code)
    classes = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
    edit_json(copy / "config.json", model_type=model_type, auto_map=classes)
    if model_type == "gpt2":
        assert type(load_model(str(copy)).model) is GPT2LMHeadModel
    else:
        assert_sentence(refusal(str(copy)), str(copy), "of-its-own", "never run")
    assert not marker.exists()


# -- a folder that is not in order ------------------------------------------------------------------


def config_with(**changes):
    return lambda folder: edit_json(folder / "config.json", **changes)


def written(name: str, content: str | bytes):
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


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


def empty_of_tensors(folder: Path) -> None:
    save_file({}, folder / "model.safetensors")


def shard_missing(folder: Path) -> None:
    shard(folder)
    sorted(folder.glob("model-*.safetensors"))[-1].unlink()


def index_without_map(folder: Path) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("{}")


def tensors_missing(folder: Path) -> None:
    def edit(tensors):
        for name in [name for name in tensors if ".h.1." in name]:
            del tensors[name]

    edit_weights(folder / "model.safetensors", edit)


def two_tokens_too_many(folder: Path) -> None:
    byte_tokenizer(END, *(f"<{i}>" for i in range(5))).save_pretrained(folder)


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
    "tokenizer-with-too-many-ids": (two_tokens_too_many, ["ids up to 261", "ends at 259", "trained with"]),
    "tokenizer-without-tokens": (tokenizer_without_tokens, ["no token at all", "again"]),
}


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE)
def test_damaged_folder_is_refused_in_one_sentence(damage, words, copy):
    damage(copy)
    assert_sentence(refusal(str(copy)), str(copy), *words)


def test_folder_that_is_not_there(tmp_path):
    assert_sentence(refusal(str(tmp_path / "nowhere")), str(tmp_path / "nowhere"), "--model mini")


def test_file_instead_of_folder(tiny_folder):
    file = tiny_folder / "model.safetensors"
    assert_sentence(refusal(str(file)), str(file), "a file", "give the folder")


@pytest.mark.parametrize("name", ["a b", "-x", "gpt2?", "two\nlines", "a--b", "x" * 97, "x" * 999], ids=range(7))
def test_impossible_name(name):
    assert_sentence(refusal(name), repr(name), "neither a folder nor a possible Hub name", "--model mini")


@pytest.mark.parametrize("name", ["./" + "x" * 999, "~nobody-of-that-name/gpt2", "a--b/c"], ids=range(3))
def test_impossible_path(name):
    assert_sentence(refusal(name), name.removeprefix("./"), "folder")


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_name_is_a_usage_error(name):
    with pytest.raises(UsageError, match="empty"):
        load_model(name)


@pytest.mark.parametrize(
    "name, is_folder",
    [
        ("gpt2", False),
        ("openai-community/gpt2", False),
        ("owner/name.with-dots_1", False),
        ("unrelated", False),
        ("here", True),
        ("owner/here", True),
        ("./gpt2", True),
        ("../gpt2", True),
        ("~/gpt2", True),
        ("/models/gpt2", True),
        (".", False),
        ("models/gpt2/", True),
        ("a/b/c", True),
        (r"models\gpt2", True),
        (r"C:\models\gpt2", True),
        ("C:/models", True),
    ],
)
def test_what_counts_as_a_folder(name, is_folder, tmp_path, monkeypatch):
    for folder in ("here", "owner/here", "unrelated"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    assert locating.is_folder_name(name) is is_folder


# -- device, dtype, memory --------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many CUDA devices, and MPS or not."""

    def pretend(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    "asked, cuda, mps, device",
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, False, "cuda"),
        ("auto", 1, True, "cuda"),
        ("auto", 0, True, "mps"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
    ],
)
def test_device_that_is_there(asked, cuda, mps, device, machine):
    machine(cuda, mps)
    picked, reason = pick_device(asked)
    assert picked == device
    assert reason == "as asked" or asked == "auto"


@pytest.mark.parametrize(
    "asked, cuda, present", [("cuda", 0, "cpu"), ("cuda:2", 2, "cuda:0, cuda:1"), ("mps", 1, "cpu")]
)
def test_absent_device_is_refused_with_what_is_there(asked, cuda, present, machine):
    machine(cuda, False)
    assert_sentence(refusal("mini", device=asked), f"device {asked}", present, "--device auto")


def test_build_of_torch_without_cuda_is_named(machine, monkeypatch):
    machine(0, False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in refusal("mini", device="cuda")
    assert "built without CUDA" not in refusal("mini", device="mps")


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA", "", "cuda:0\n"])
def test_malformed_device_is_a_usage_error(asked):
    with pytest.raises(UsageError, match="not one of auto, cpu, cuda, cuda:N and mps"):
        load_model("mini", device=asked)


@pytest.mark.parametrize("asked", ["int8", "", "torch.float16", "half"])
def test_malformed_dtype_is_a_usage_error(asked):
    with pytest.raises(UsageError, match="not one of auto, float32, float16, bfloat16"):
        load_model("mini", dtype=asked)


@pytest.mark.parametrize(
    "asked, device, model_type, stored, dtype",
    [
        ("auto", "cpu", "llama", "bfloat16", "float32"),
        ("auto", "cpu", "gpt2", "float16", "float32"),
        ("auto", "cuda", "gpt2", "float16", "float32"),
        ("auto", "cuda:1", "llama", "bfloat16", "bfloat16"),
        ("auto", "mps", "llama", "float16", "float16"),
        ("bfloat16", "cpu", "gpt2", "float32", "bfloat16"),
        ("float32", "cuda", "llama", "float16", "float32"),
    ],
)
def test_dtype(asked, device, model_type, stored, dtype):
    assert pick_dtype(asked, device, model_type, stored)[0] == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_asked_for_is_that_of_every_weight(dtype, tiny_folder):
    loaded = load_model(str(tiny_folder), dtype=dtype)
    assert loaded.dtype == dtype
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {getattr(torch, dtype)}


def test_dtype_of_a_file_is_what_most_of_its_weights_have(copy):
    store_in_half(copy)
    weights = checkpoint.check_weights(copy)
    assert weights.dtype == "float16"
    assert weights.parameter_count == GPT2LMHeadModel(tiny_config()).num_parameters()


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 999 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: str(error)[:24] or "MemoryError")
def test_exhausted_memory_is_one_sentence_with_the_need(error, tiny_folder, monkeypatch):
    def fail(*_args):
        raise error

    monkeypatch.setattr(loading, "_from_pretrained", fail)
    assert is_out_of_memory(error)
    need = f"{checkpoint.check_weights(tiny_folder).parameter_count * 4 / 1e6:.0f} MB in float32"
    assert_sentence(refusal(str(tiny_folder)), str(tiny_folder), need, "smaller model", "--dtype bfloat16")


def test_exhausted_accelerator_names_the_cpu_and_only_what_would_help():
    message = str(devices.memory_error("big/model", 7_000_000_000, "cuda", "bfloat16"))
    assert_sentence(message, "14,000 MB in bfloat16", "on cuda", "--device cpu")
    assert "--dtype" not in message


@pytest.mark.parametrize(
    "error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("x"), OSError(2, "No such file")]
)
def test_other_errors_are_not_exhausted_memory(error):
    assert not is_out_of_memory(error)


# -- the bundled model, the cache and the Hub -------------------------------------------------------


@pytest.fixture
def online(tmp_path, monkeypatch) -> Path:
    """An empty cache, no token, no proxy, no offline mode, and whatever HF_ENDPOINT a test then sets."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    huggingface_hub.close_session()  # the client remembers the proxies it was made with
    yield tmp_path / "hub"
    huggingface_hub.close_session()


class FakeHub(ThreadingHTTPServer):
    """What huggingface_hub asks of a Hub, on 127.0.0.1: the listing of a repository and its files.

    `repositories` maps a name to its files; `statuses` a path to the status it is answered with instead; a request
    for anything in `silent` is never answered. `requests` are the methods and paths asked for, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.statuses: dict[str, tuple[int, dict[str, str]]] = {}
        self.silent: set[str] = set()
        self.released = threading.Event()
        self.requests: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path in self.statuses:
            return *self.statuses[path], b"<html>"
        if path.startswith("/api/models/") and path.removeprefix("/api/models/") in self.repositories:
            name = path.removeprefix("/api/models/")
            siblings = [{"rfilename": file, "size": len(data)} for file, data in self.repositories[name].items()]
            return 200, {}, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
        name, _, file = path.removeprefix("/").partition("/resolve/main/")
        data = self.repositories.get(name, {}).get(file)
        if data is None:
            return 404, {}, b""
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{abs(hash((name, file))):x}"'}, data


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        if path in self.server.silent:
            self.server.released.wait(30)
            self.close_connection = True
            return
        status, headers, body = self.server.answer(path)
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_args) -> None: ...


@pytest.fixture
def fake_hub(online, monkeypatch):  # noqa: ARG001 - for its effect
    server = FakeHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def put_in_cache(cache: Path, name: str, folder: Path) -> Path:
    """`folder` as the snapshot of `name` that huggingface_hub would have left."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, repository / "snapshots" / COMMIT))


@pytest.fixture
def no_network(monkeypatch):
    """Any attempt to look up a name or to connect is an error, and is remembered."""
    attempts: list[object] = []

    def refuse(*args, **_kwargs):
        attempts.append(args)
        raise OSError("a network call")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield attempts
    assert not attempts


@pytest.mark.usefixtures("online", "no_network")
@pytest.mark.parametrize("name", ["mini", "folder"])
def test_no_network_for_a_model_that_is_here(name, tiny_folder):
    loaded = load_model(str(tiny_folder) if name == "folder" else name)
    assert loaded.revision is None
    assert len(loaded.notes) == 1


def test_mini_is_the_bundled_model_even_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    loaded = load_model("mini")
    assert loaded.model.config.n_layer == 12
    assert loaded.model.dtype == torch.float32


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("asked", [None, "gpt2", "openai-community/gpt2"])
@pytest.mark.parametrize("cached", ["gpt2", "openai-community/gpt2"])
def test_gpt2_comes_from_the_cache_under_either_name(cached, asked, online, tiny_folder):
    put_in_cache(online, cached, tiny_folder)
    loaded = load_model(asked)
    assert loaded.name == (asked or "gpt2")
    assert loaded.revision == COMMIT
    assert loaded.model.config.n_layer == 2
    assert len(loaded.notes) == 1


def test_spellings_of_other_names():
    assert hub.spellings("distilbert/distilgpt2") == ("distilbert/distilgpt2", "distilgpt2")
    assert hub.spellings("someone/gpt2") == ("someone/gpt2",)
    assert hub.spellings("someone/model") == ("someone/model",)


@pytest.mark.usefixtures("no_network")
def test_damaged_gpt2_in_the_cache_is_an_error_not_another_model(online, tiny_folder):
    cut_short(put_in_cache(online, "gpt2", tiny_folder))
    assert_sentence(refusal(), COMMIT, "model.safetensors", "cut short")


@pytest.mark.parametrize("damage", [without("model.safetensors"), shard_missing, index_without_map, pickle_instead])
def test_incomplete_snapshot_counts_as_not_cached(damage, online, tiny_folder, closed_port, monkeypatch):
    damage(put_in_cache(online, "some/model", tiny_folder))
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert_sentence(refusal("some/model"), "some/model", closed_port, "HF_ENDPOINT", "folder", "--model mini")


def test_download_is_announced_first_and_takes_no_pickle(fake_hub, tiny_folder):
    unwanted = {"pytorch_model.bin": PICKLE, "tf_model.h5": b"x", "onnx/config.json": b"{}", "README.md": b"x"}
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | unwanted
    requests_at_notice: list[Counter[str]] = []
    loaded = load_model("some/model", on_notice=lambda _: requests_at_notice.append(Counter(fake_hub.requests)))
    assert requests_at_notice[0] == Counter({"GET /api/models/some/model": 1})
    assert_sentence(loaded.notes[0], "Downloading some/model", "MB", fake_hub.url)
    assert loaded.revision == COMMIT
    assert loaded.name == "some/model"
    downloaded = {request.rpartition("/main/")[2] for request in fake_hub.requests if "/resolve/" in request}
    assert downloaded == set(files_of(tiny_folder))
    assert torch.equal(loaded.model.lm_head.weight, load_model(str(tiny_folder)).model.lm_head.weight)


def test_second_time_comes_from_the_cache(fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    load_model("some/model")
    fake_hub.requests.clear()
    assert load_model("some/model").revision == COMMIT
    assert fake_hub.requests == []


def test_incomplete_snapshot_is_completed(fake_hub, online, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    (put_in_cache(online, "some/model", tiny_folder) / "model.safetensors").unlink()
    assert load_model("some/model").revision == COMMIT


@pytest.mark.parametrize("moved", [False, True])
def test_gpt2_is_downloaded_when_nothing_is_asked_for(moved, fake_hub, tiny_folder):
    """On the Hub itself gpt2 is a redirection to openai-community/gpt2."""
    fake_hub.repositories["openai-community/gpt2" if moved else "gpt2"] = files_of(tiny_folder)
    for file in files_of(tiny_folder) if moved else ():
        end = f"gpt2/resolve/main/{file}"
        fake_hub.statuses[f"/{end}"] = (307, {"Location": f"/openai-community/{end}"})
    if moved:
        fake_hub.statuses["/api/models/gpt2"] = (307, {"Location": "/api/models/openai-community/gpt2"})
    loaded = load_model()
    assert (loaded.name, loaded.model.config.n_layer) == ("gpt2", 2)
    assert_sentence(loaded.notes[0], "Downloading gpt2 (0 MB)")


def test_which_files_are_wanted():
    sharded = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    others = [
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "onnx/model-1-of-1.safetensors",
        "pytorch_model.bin",
    ]
    files = dict.fromkeys(["tokenizer.json", *others, *sharded, index, "config.json"], 1)
    assert hub._wanted_files(files) == ["config.json", "tokenizer.json", index, *sharded]
    assert hub._wanted_files(files | {"model.safetensors": 1})[-1] == "model.safetensors"
    assert hub._size([548_105_171, None]) == "size unknown"
    assert hub._size([548_105_171, 1_355_256]) == "549 MB"


@pytest.mark.parametrize(
    "missing, reason",
    [("model.safetensors", "pickle is refused"), ("config.json", "config.json"), ("tokenizer.json", "tokenizer")],
)
def test_repository_that_cannot_be_loaded_is_not_downloaded(missing, reason, fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder) | {"pytorch_model.bin": PICKLE}
    del fake_hub.repositories["some/model"][missing]
    assert_sentence(refusal("some/model"), "some/model", reason, "another model")
    assert fake_hub.requests == ["GET /api/models/some/model"]


@pytest.mark.parametrize(
    "status, headers, words",
    [
        (404, {}, ["knows no such model", "HTTP 404", "spelling"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["knows no such model", "HTTP 404", "spelling"]),
        (401, {}, ["knows no such model", "HTTP 401", "hf auth login"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["accepted its terms", "hf auth login"]),
        (503, {}, ["HTTP 503", "later"]),
        (200, {}, ["does not answer as a Hub does", "HF_ENDPOINT"]),
    ],
    ids=["unknown", "unknown-by-code", "unauthorised", "gated", "out-of-order", "not-a-hub"],
)
def test_answers_of_the_hub_that_are_no_model(status, headers, words, fake_hub):
    fake_hub.statuses["/api/models/some/model"] = (status, headers)
    message = refusal("some/model")
    assert_sentence(message, "some/model", fake_hub.url if status != 403 else "Hub", "--model mini", *words)


def test_gated_files_behind_an_open_listing(fake_hub, tiny_folder):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    fake_hub.statuses["/some/model/resolve/main/config.json"] = (401, {"X-Error-Code": "GatedRepo"})
    assert_sentence(refusal("some/model"), "some/model", "accepted its terms", "hf auth login")


def test_hub_that_answers_and_then_falls_silent(fake_hub, tiny_folder, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.3)
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    fake_hub.silent.add("/some/model/resolve/main/model.safetensors")
    started = time.perf_counter()
    assert_sentence(refusal("some/model"), "some/model", "broke off", "timed out", "HF_ENDPOINT", "--model mini")
    assert time.perf_counter() - started < 3


@pytest.mark.usefixtures("online")
def test_silent_hub_is_noticed_within_five_seconds(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        started = time.perf_counter()
        noticed: list[float] = []
        loaded = load_model(on_notice=lambda _: noticed.append(time.perf_counter() - started))
    assert noticed[0] < 5
    assert loaded.name == "mini"
    assert len(loaded.notes) == 2
    assert_sentence(loaded.notes[0], "gpt2", "mini", "4 seconds", "HF_ENDPOINT", "--model")


@pytest.mark.usefixtures("online")
def test_name_lookup_that_hangs_is_left_behind(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")

    def hang(*_args, **_kwargs):
        released.wait(30)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.perf_counter()
    try:
        assert_sentence(refusal("some/model"), "some/model", "http://hub.invalid", "HF_ENDPOINT", "--model mini")
        assert time.perf_counter() - started < 3
    finally:
        released.set()


@pytest.mark.usefixtures("online")
def test_refused_connection_falls_back_to_mini_only_for_the_default(closed_port, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert load_model().name == "mini"
    assert_sentence(refusal("gpt2"), "gpt2", closed_port, "HF_ENDPOINT", "local folder", "--model mini")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_asks_nobody(variable, fake_hub, monkeypatch):
    monkeypatch.setenv(variable, "1")
    assert_sentence(refusal("some/model"), "some/model", f"unset {variable}", "folder", "--model mini")
    loaded = load_model()
    assert loaded.name == "mini"
    assert_sentence(loaded.notes[0], f"{variable} is set", f"unset {variable}")
    assert fake_hub.requests == []


def test_proxy_is_honoured(fake_hub, tiny_folder, monkeypatch):
    """The Hub's name cannot be resolved here: only the proxy can answer for it."""
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", fake_hub.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert load_model("some/model").revision == COMMIT


def test_cache_that_cannot_be_written(fake_hub, tiny_folder, online):
    fake_hub.repositories["some/model"] = files_of(tiny_folder)
    online.write_text("a file where the cache should be")
    assert_sentence(refusal("some/model"), "some/model", "cannot be written", "HF_HOME")


# -- prompts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template, before",
    [(None, []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"]), ("<s> <s> $A </s>", ["<s>", "<s>"])],
)
@pytest.mark.parametrize("text", ["Hi", "", "a</s>", "</s>", "é", f"x{END}y"])
def test_tokens_added_after_the_prompt_are_left_out(template, before, text):
    tokenizer = byte_tokenizer("<s>", "</s>", END, template=template)
    assert encode_prompt(tokenizer, text) == [
        *tokenizer.convert_tokens_to_ids(before),
        *tokenizer.encode(text, add_special_tokens=False),
    ]


def test_end_of_text_in_a_prompt_is_the_special_token(mini):
    assert encode_prompt(mini.tokenizer, END) == [0]
    assert encode_prompt(mini.tokenizer, f"a{END}b")[1] == 0


# -- silence and start-up ---------------------------------------------------------------------------


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, from the source folder, offline."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"}
    inherited = {name: value for name, value in os.environ.items() if name not in quiet}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"HF_HUB_OFFLINE": "1"} | environment,
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_nothing_is_printed_when_the_libraries_are_quiet(copy):
    add_attention_masks(copy)  # transformers has a report on those, besides its progress bar
    edit_json(copy / "config.json", eos_token_id=50256)  # and a warning on that
    code = "from layer_decoding.loading import *; quiet_libraries(); load_model(FOLDER)"
    done = run_python(code.replace("FOLDER", repr(str(copy))))
    assert (done.stdout, done.stderr) == ("", "")


def test_quiet_after_the_libraries_are_imported(copy, capfd):
    quiet_libraries()
    edit_json(copy / "config.json", n_embd=18)
    refusal(str(copy))
    assert capfd.readouterr() == ("", "")


def test_importing_the_loader_imports_neither_torch_nor_transformers():
    heavy = "{'torch', 'transformers', 'huggingface_hub', 'safetensors'}"
    code = f"import sys, layer_decoding.loading; print({heavy} & set(sys.modules))"
    assert run_python(code).stdout == "set()\n"
