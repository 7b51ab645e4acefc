"""Models in one GGUF file: the same model as its folder, and each way in which a file can fall short."""

import struct

import gguf
import pytest
import torch
from transformers import LlamaConfig, Starcoder2Config
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import multi_layer_decoding_demo as demo
import reference
from gguf_files import CONTEXT, END, HEADS, TOKENS, WIDTH, finish, gpt2_file, llama_file, writer_of
from layer_decoding import decode_layers, load_model
from layer_decoding.models.gguf import file as gguf_file
from layer_decoding.models.gguf.file import GgufFile
from layer_decoding.models.loading import quiet_libraries
from layer_decoding.models.prompts import encode_prompt
from refusals import refusal

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def file(tmp_path):
    """A GGUF file of a tiny GPT-2, to damage."""
    path = tmp_path / "tiny.gguf"
    gpt2_file(path)
    return path


@pytest.mark.parametrize("make", [gpt2_file, llama_file])
def test_a_file_is_the_model_it_was_made_of(make, tmp_path, capfd):
    model = make(tmp_path / "tiny.gguf")
    quiet_libraries()
    loaded = load_model(str(tmp_path / "tiny.gguf"), device="cpu")
    assert capfd.readouterr() == ("", "")  # no progress bar of the library
    assert (loaded.name, loaded.dtype, loaded.revision) == (str(tmp_path / "tiny.gguf"), "float32", None)
    assert loaded.model.config.max_position_embeddings == CONTEXT
    ids = encode_prompt(loaded.tokenizer, "once upon" + END)
    assert ids == [TOKENS.index(piece) for piece in ["on", "c", "e", "Ġ", "u", "p", "on", END]]
    assert loaded.tokenizer.decode(ids[:-1]) == "once upon"
    assert torch.allclose(reference.text_logits(loaded.model, ids), reference.text_logits(model, ids), atol=1e-4)
    decoding = decode_layers(loaded.model, ids, 5, context="own")
    assert list(decoding.final_row.ids) == reference.plain_greedy(model, ids, 5)


def test_a_script_reads_a_file(file, capsys):
    assert demo.main(["once", "--model", str(file), "--max-new-tokens", "3", "--color", "never"]) == 0
    out, err = capsys.readouterr()
    assert "Layer 3:" in out
    assert f"Running {file} on cpu" in err


def test_a_prompt_longer_than_the_files_context_is_refused(file, capsys):
    assert demo.main(["a" * CONTEXT, "--model", str(file)]) == 2
    assert f"context holds {CONTEXT}" in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path):
    assert f"There is no file {tmp_path / 'absent.gguf'}" in refusal(str(tmp_path / "absent.gguf"))


def test_a_file_that_is_cut_short(file):
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    message = refusal(str(file))
    assert f"{len(whole) - 100:,} bytes" in message
    assert "cut short" in message


def test_a_file_cut_short_in_its_header(file):
    file.write_bytes(file.read_bytes()[:300])
    assert "300 bytes" in refusal(str(file))


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF"])
def test_a_file_that_is_something_else(content, tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    assert "no GGUF file that can be read" in refusal(str(path))


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "folder.gguf").mkdir()
    assert "There is no file" in refusal(str(tmp_path / "folder.gguf"))


def test_an_architecture_that_transformers_cannot_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "new.gguf", "unheard-of")
    finish(writer, {"token_embd.weight": torch.zeros(4, 4)})
    message = refusal(str(tmp_path / "new.gguf"))
    assert "unheard-of" in message
    assert "safetensors" in message
    assert "restore" not in message


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_of_a_model(part, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.no", part)
    writer.add_uint16("split.count", 2)
    finish(writer, {"token_embd.weight": torch.zeros(4, 4)} if part else {})
    message = refusal(str(tmp_path / "part.gguf"))
    assert f"part {part + 1} of 2" in message
    assert "llama-gguf-split --merge" in message


def test_a_vocabulary_alone(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "vocab.gguf", "llama")
    writer.add_token_list(TOKENS)
    finish(writer, {})
    assert "no weights, only a vocabulary" in refusal(str(tmp_path / "vocab.gguf"))


def test_a_type_of_number_that_transformers_cannot_read(file):
    whole = file.read_bytes()
    at = whole.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    file.write_bytes(whole[:at] + struct.pack("<I", 34) + whole[at + 4 :])  # TQ1_0
    message = refusal(str(file))
    assert "quantised in a way that transformers cannot read" in message
    assert "another quantisation" in message


def test_packages_that_are_not_installed(file, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda package: None if package == "gguf" else package)
    message = refusal(str(file))
    assert "gguf to read it with" in message
    assert "pip install gguf accelerate" in message


# ---------------------------------------------------------------- nothing in a file is left out


def logits_of(path, ids):
    return reference.text_logits(load_model(str(path), device="cpu").model, ids)


def test_a_file_that_does_not_say_how_many_heads_share_keys(tmp_path):
    """Old files of models in which none do; llama.cpp takes the number of heads."""
    model = llama_file(tmp_path / "old.gguf", heads_shared_by=None)
    ids = list(range(40))
    assert torch.allclose(logits_of(tmp_path / "old.gguf", ids), reference.text_logits(model, ids), atol=1e-4)


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def test_factors_of_rotary_positions_are_followed(tmp_path):
    """Llama 3.1: the scaling is a tensor, and nothing in the metadata tells of it."""
    plain = LlamaConfig(hidden_size=WIDTH, num_attention_heads=HEADS)
    model = llama_file(tmp_path / "unscaled.gguf", rope=LLAMA3_ROPE)
    factors = rotary(plain) / rotary(model.config)
    assert factors.max() == 8
    llama_file(tmp_path / "scaled.gguf", rope=LLAMA3_ROPE, extra={"rope_freqs.weight": factors})
    ids = list(range(40))
    expected = reference.text_logits(model, ids)
    assert torch.allclose(logits_of(tmp_path / "scaled.gguf", ids), expected, atol=1e-4)
    assert not torch.allclose(logits_of(tmp_path / "unscaled.gguf", ids), expected, atol=1e-2)
    decoding = decode_layers(load_model(str(tmp_path / "scaled.gguf")).model, ids, 5, context="own")
    assert list(decoding.final_row.ids) == reference.plain_greedy(model, ids, 5)


def rotary(config):
    return LlamaRotaryEmbedding(config).inv_freq


def test_a_base_of_rotary_positions_that_transformers_drops(tmp_path):
    """StarCoder2's: its default would be taken."""
    path = tmp_path / "base.gguf"
    writer = writer_of(path, "starcoder2", Starcoder2Config(eos_token_id=256))
    writer.add_head_count_kv(1)
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(77_000.0)
    finish(writer, {"token_embd.weight": torch.zeros(len(TOKENS), WIDTH)})
    config = GgufFile(path, str(path)).read_config()
    assert config.rope_parameters["rope_theta"] == 77_000
    assert (config.num_key_value_heads, config.max_position_embeddings) == (1, CONTEXT)


@pytest.mark.parametrize(
    "extra, settings, words",
    [
        ({"blk.0.attn_q.scale": torch.ones(1)}, {}, ["blk.0.attn_q.scale", "quantised"]),
        ({"blk.1.attn_sub_norm.weight": torch.ones(WIDTH), "x.weight": torch.ones(1)}, {}, ["attn_sub_norm", "1 more"]),
        ({"rope_freqs.weight": torch.ones(3)}, {}, ["rope_freqs.weight", "3 factors"]),
        ({"rope_factors_long.weight": torch.ones(4)}, {}, ["rope_factors_long.weight"]),
        ({}, {"rope_scaling_type": gguf.RopeScalingType.LINEAR, "rope_scaling_factor": 4.0}, ["linear", "positions"]),
    ],
)
def test_what_the_model_would_run_without_is_named(extra, settings, words, tmp_path):
    llama_file(tmp_path / "more.gguf", extra=extra, settings=settings)
    message = refusal(str(tmp_path / "more.gguf"))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("blocks, words", [(10**9, "impossible"), (50_000, "asks for 50,000 layers")])
def test_more_blocks_than_a_file_can_hold(file, blocks, words):
    whole = file.read_bytes()
    at = whole.index(b"block_count") + len(b"block_count") + 4
    file.write_bytes(whole[:at] + struct.pack("<I", blocks) + whole[at + 4 :])
    assert words in refusal(str(file))
