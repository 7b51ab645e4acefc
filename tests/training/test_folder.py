"""The folder of a run: goes on only from its own, never over another's, and says so when a disk is full."""

import errno
import json
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors import SafetensorError

import train_mini_gpt2
from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.folder import Folder, Origin, fingerprint
from layer_decoding.training.model import build_model, build_optimizers
from layer_decoding.training.recipe import Progress, Recipe
from layer_decoding.training.vocabulary import kept_tokenizer, train_tokenizer

RECIPE = Recipe(2, 16, 2, 16, 300, 4, 0.01)
ORIGIN = Origin(RECIPE, "1234", "{}")


def trained(seed=0):
    """A model with optimizers that have taken a step."""
    model = build_model(RECIPE, 300, 0)
    optimizers = build_optimizers(model, 0.01)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return model, optimizers


@pytest.fixture
def folder(tmp_path):
    """A folder with a checkpoint."""
    folder = Folder(tmp_path / "out")
    assert folder.open() is None
    folder.save_checkpoint(*trained(), ORIGIN, Progress(3, 1.5))
    return folder


def states(optimizers):
    return [optimizer.state_dict()["state"] for optimizer in optimizers]


def test_what_is_saved_comes_back(folder):
    model, optimizers = trained()
    again, others = trained(seed=9)
    assert folder.open() == (ORIGIN, Progress(3, 1.5))
    folder.restore(again, others)
    torch.testing.assert_close(dict(again.named_parameters()), dict(model.named_parameters()), rtol=0, atol=0)
    torch.testing.assert_close(states(others), states(optimizers), rtol=0, atol=0)
    assert [file.name for file in folder.path.iterdir()] == ["checkpoint.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_another_model_is_never_written_over(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(LayerDecodingError, match=f"holds a model that is none of a run here .{name} without") as caught:
        Folder(tmp_path).open()
    assert caught.value.settings == ("out",)
    assert (tmp_path / name).read_text() == "{}"


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LayerDecodingError, match=r"cannot be made: .*; choose another folder"):
        Folder(tmp_path / "file" / "out").open()


@pytest.mark.parametrize("content", [b"damaged", b"", None], ids=["noise", "empty", "older"])
def test_a_damaged_checkpoint_or_an_older_one(folder, content):
    if content is None:
        from safetensors.torch import save_file

        save_file({}, folder.checkpoint, {"recipe": json.dumps(asdict(RECIPE)), "progress": "{}"})
    else:
        folder.checkpoint.write_bytes(content)
    with pytest.raises(LayerDecodingError, match="is damaged, or of another version") as caught:
        folder.open()
    assert caught.value.settings == ("out",)


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("error", [FULL, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("free", [0, 10**12], ids=["full", "quota"])
def test_a_full_disk_is_one_sentence_and_the_last_checkpoint_stays(folder, monkeypatch, error, free):
    def write_some(_tensors, path, _metadata):
        path.write_bytes(b"half")
        raise error

    before = folder.checkpoint.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", write_some)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free))
    with pytest.raises(LayerDecodingError) as caught:
        folder.save_checkpoint(*trained(), ORIGIN, Progress(9, 9.0))
    why = "the disk is full" if free == 0 else "No space left on device"
    assert f"cannot be written to ({why}): " in str(caught.value)
    assert "0.1 MB are needed" in str(caught.value)
    assert folder.checkpoint.read_bytes() == before
    assert [file.name for file in folder.path.iterdir()] == ["checkpoint.safetensors"]


def test_a_full_disk_at_the_end_is_told_too(folder, monkeypatch):
    model, _ = trained()
    monkeypatch.setattr(model, "save_pretrained", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
    with pytest.raises(LayerDecodingError, match="cannot be written to"):
        folder.save_model(model, None)
    assert [file.name for file in folder.path.iterdir()] == ["checkpoint.safetensors"]


def test_a_kept_tokenizer_is_the_same():
    tokenizer = train_tokenizer(["The fox saw the moon."] * 3, "bpe", 300, 16)
    again = kept_tokenizer(tokenizer.backend_tokenizer.to_str(), 16)
    assert again.encode("The moon<|endoftext|> é") == tokenizer.encode("The moon<|endoftext|> é")
    assert (again.eos_token_id, again.model_max_length) == (0, 16)


def test_texts_are_told_apart():
    assert fingerprint(["a", "b"]) == fingerprint(["a", "b"])
    assert len({fingerprint(texts) for texts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""])}) == 4


def test_going_on_with_another_text_is_refused(tmp_path, capsys):
    options = ["--layers=1", "--width=16", "--context=16", "--batch=2", "--vocabulary=300", "--device=cpu", "--quiet"]
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"The {name} " * 300, encoding="utf-8")
    argv = [str(tmp_path / "one"), "--out", str(tmp_path / "out"), *options]
    assert train_mini_gpt2.main([*argv, "--steps=1"]) == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    assert train_mini_gpt2.main([str(tmp_path / "two"), *argv[1:], "--steps=2"]) == 1
    sentence = capsys.readouterr().err
    assert "learns another text" in sentence
    assert sentence.endswith("or choose another folder (--out).\n")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
