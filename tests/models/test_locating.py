"""What the name of a model means: the bundled one, a folder, a name on the Hub, or nothing that can be."""

import pytest
import torch

from layer_decoding.errors import UsageError
from layer_decoding.models import locating
from layer_decoding.models.loading import load_model
from refusals import assert_sentence, refusal


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


def test_folder_that_one_stands_in(tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder)
    assert load_model(".").model.config.n_layer == 2


def test_mini_is_the_bundled_model_even_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    loaded = load_model("mini")
    assert loaded.model.config.n_layer == 12
    assert loaded.model.dtype == torch.float32


def test_folder_that_is_not_there(tmp_path):
    assert_sentence(refusal(str(tmp_path / "nowhere")), str(tmp_path / "nowhere"), "mini for the bundled model")


def test_file_instead_of_folder(tiny_folder):
    file = tiny_folder / "model.safetensors"
    assert_sentence(refusal(str(file)), str(file), "a file", "give the folder")


@pytest.mark.parametrize("name", ["a b", "-x", "gpt2?", "two\nlines", "a--b", "x" * 97, "x" * 999], ids=range(7))
def test_impossible_name(name):
    assert_sentence(refusal(name), repr(name), "neither a folder nor a possible Hub name", "mini")


@pytest.mark.parametrize("name", ["./" + "x" * 999, "~nobody-of-that-name/gpt2", "a--b/c"], ids=range(3))
def test_impossible_path(name):
    assert_sentence(refusal(name), name.removeprefix("./"), "folder")


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_name_is_a_usage_error(name):
    with pytest.raises(UsageError, match="empty"):
        load_model(name)
