"""What every test may use: the bundled model, tiny random ones that are cheap to take apart, a text, a page."""

import gc
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

gc.disable()  # until all is imported: a million objects that stay, looked through again and again
settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is tested is the same on every machine
os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches a network; those about the Hub set their own
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell: what a test starts must hear it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "gpt2_multi_layers_decoding"
STORY = (ROOT / "tests" / "support" / "tale.txt").read_text(encoding="utf-8")


def pytest_collection_finish():
    """What is there now stays; from here on garbage is looked for among what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small are slower on two threads, which mostly wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_colour_settings():
    """What the shell that runs the tests says about colour is not for what they run."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(tmp_path_factory):
    """What is kept for the next time is kept for these tests alone, in their process and in those that they start."""
    folder = str(tmp_path_factory.mktemp("assets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ASSETS_CACHE", folder)
        patch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", folder)
        yield


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """The folder in which nothing is kept yet."""
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    return tmp_path / "assets"


@pytest.fixture(scope="session")
def mini():
    """The bundled model, loaded as every script loads it."""
    from layer_decoding.models.loading import load_model, quiet_libraries

    quiet_libraries()
    return load_model("mini", device="cpu")


@pytest.fixture(scope="session")
def prompt_ids(mini):
    """The default prompt in the bundled model's tokens."""
    from layer_decoding.cli.input import DEFAULT_PROMPT

    return mini.tokenizer.encode(DEFAULT_PROMPT)


@pytest.fixture(scope="session")
def real_page(mini, prompt_ids):
    """What the bundled model says of the default prompt: (decoding, its JSON document, its page)."""
    from layer_decoding.cli.input import DEFAULT_PROMPT
    from layer_decoding.decoding.greedy import decode_layers
    from layer_decoding.files.documents import greedy_document, to_json
    from layer_decoding.files.page.page import render_page
    from layer_decoding.terminal.pieces import Pieces

    decoding, pieces = decode_layers(mini.model, prompt_ids, 16), Pieces(mini.tokenizer)
    document = json.loads(to_json(greedy_document(decoding, DEFAULT_PROMPT, mini, pieces)))
    return decoding, document, render_page(decoding, DEFAULT_PROMPT, document, pieces)


@pytest.fixture
def tiny():
    """A random GPT-2 of 4 blocks whose logits are spread enough to be told apart. Fresh for each test."""
    return random_gpt2()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A random GPT-2 of 2 blocks with a tokenizer of single bytes, as a folder. Not to be changed."""
    from model_folders import save_tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_tiny(folder)
    return folder


@pytest.fixture
def tiny_copy(tiny_folder, tmp_path) -> Path:
    """A copy of the tiny folder, to change or to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def random_gpt2(seed: int = 0, **overrides):
    """A random GPT-2: 4 blocks of width 32, vocabulary 97, context 64, 56,032 parameters unless overridden."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    shape = {"vocab_size": 97, "n_positions": 64, "n_embd": 32, "n_layer": 4, "n_head": 4} | overrides
    config = GPT2Config(**shape, bos_token_id=None, eos_token_id=None, initializer_range=0.3)
    model = GPT2LMHeadModel(config).eval().requires_grad_(False)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.weight.normal_(1, 0.3)
        norm.bias.normal_(0, 0.3)
    return model


def with_end(model, end):
    """The model, whose texts end with a token, or with any of a list."""
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    return model
