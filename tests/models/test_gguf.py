"""Models in one GGUF file: the same model as its folder, and each way in which a file can fall short."""

import gguf
import pytest
import torch

import multi_layer_decoding_demo as demo
import reference
from gguf_files import CONTEXT, END, TOKENS, finish, gpt2_file, llama_file
from layer_decoding import decode_layers, load_model
from layer_decoding.models.gguf import file as gguf_file
from layer_decoding.models.loading import quiet_libraries
from layer_decoding.models.prompts import encode_prompt
from refusals import refusal


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
    assert "unheard-of" in refusal(str(tmp_path / "new.gguf"))


def test_packages_that_are_not_installed(file, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda package: None if package == "gguf" else package)
    message = refusal(str(file))
    assert "gguf to read it with" in message
    assert "pip install gguf accelerate" in message
