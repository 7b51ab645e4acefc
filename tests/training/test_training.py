"""Training on a text of a few sentences: repeatable, resumable, scored as defined, and what it writes opens."""

import math
import random
import shutil
from dataclasses import replace

import pytest
import torch

import train_mini_gpt2
from layer_decoding import decode_layers, load_model
from layer_decoding.training import training
from layer_decoding.training.corpus import read_documents
from layer_decoding.training.folder import Folder
from layer_decoding.training.model import build_model
from layer_decoding.training.recipe import Length, Progress, Recipe
from layer_decoding.training.windows import Windows, bits_per_byte

RECIPE = Recipe(2, 16, 2, 16, 300, 4, 4e-3)
SHAPE = ["--layers=2", "--width=16", "--heads=2", "--context=16", "--vocabulary=300", "--batch=4", "--quiet"]
ON_CPU = [*SHAPE, "--device=cpu"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Forty documents of shuffled sentences."""
    sentences = [
        f"The {who} saw the {what} by the river." for who in ("fox", "king", "cat") for what in ("moon", "owl")
    ]
    dice = random.Random(1)
    documents = [" ".join(dice.choices(sentences, k=20)) for _ in range(40)]
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n<|endoftext|>\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A folder after 40 steps."""
    folder = tmp_path_factory.mktemp("trained")
    assert train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "40", *ON_CPU]) == 0
    return folder


def test_the_folder_opens_and_decodes(trained):
    loaded = load_model(f"{trained}/", device="cpu")
    assert loaded.dtype == "float32"
    assert loaded.model.config.activation_function == "gelu_new"
    assert loaded.tokenizer.eos_token_id == 0
    ids = loaded.tokenizer.encode("The fox")
    assert len(decode_layers(loaded.model, ids, 5).rows) == 2


def test_it_learns(text, trained):
    _, held_out = read_documents(text)
    fresh = build_model(RECIPE, 300, 0).eval()
    loaded = load_model(f"{trained}/", device="cpu")
    ids = torch.tensor(loaded.tokenizer.encode(held_out[0]))
    assert bits_per_byte(loaded.model, ids, 100)[0] < bits_per_byte(fresh, ids, 100)[0] - 0.4


def test_same_seed_same_weights_and_another_seed_others(text, trained, tmp_path):
    first = (trained / "model.safetensors").read_bytes()
    for seed, same in (("0", True), ("1", False), ("100000000000000000000", False)):
        folder = tmp_path / seed
        train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "40", "--seed", seed, *ON_CPU])
        assert ((folder / "model.safetensors").read_bytes() == first) == same


def test_resuming_sees_what_an_unbroken_run_sees(text, tmp_path, monkeypatch):
    """Stopped in the part of constant learning rate, then finished: the weights of one run, dropout and all."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    def run(folder, *options):
        return train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "30", *ON_CPU, *options])

    assert run(whole, "--dropout=0.2") == 0

    def save_then_stop(self, model, optimizers, origin, progress):
        real(self, model, optimizers, origin, progress)
        if progress.step == 10:
            raise KeyboardInterrupt

    real = Folder.save_checkpoint
    with monkeypatch.context() as stop:
        stop.setattr(Folder, "save_checkpoint", save_then_stop)
        stop.setattr(training, "CHECKPOINT_STEPS", 10)
        assert run(broken, "--dropout=0.2") == 130
    assert run(broken) == 0  # what is not given is the checkpoint's
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()


def test_dropout_is_for_training_alone(text, tmp_path):
    """It changes what is learnt, and is not left in the folder that others open."""
    weights = set()
    for share in ("0", "0.2"):
        folder = tmp_path / share
        train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "3", "--dropout", share, *ON_CPU])
        weights.add((folder / "model.safetensors").read_bytes())
        config = load_model(f"{folder}/", device="cpu").model.config
        assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0, 0, 0)
    assert len(weights) == 2
    config = build_model(replace(RECIPE, dropout=0.2), 300, 0).config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.2, 0.2, 0)


def test_the_plan_is_told_before_and_holds_what_was_given(text, tmp_path, capsys):
    argv = [str(text), "--out", str(tmp_path / "out"), "--steps", "4", *ON_CPU, "--dropout", "0.25"]
    assert train_mini_gpt2.main(argv) == 0
    data, shape, learning, outlook, *_ = capsys.readouterr().out.splitlines()
    assert "in 39 documents to learn from, 1 held out: " in data
    assert shape.startswith("2 layers of width 16, 2 heads, context 16, vocabulary 289: ")  # as many as the text has
    assert learning == "Batches of 4, learning rate 0.02, dropout 0.25, on cpu in float32"
    assert outlook.startswith("About 4 steps in ")
    assert "whole words begin to come after some 100" in outlook


@pytest.mark.parametrize(
    "length, progress, share, left",
    [
        (Length(40), Progress(10, 5.0), 0.25, 30),
        (Length(40), Progress(50, 5.0), 1.25, 0),
        (Length(None, 60.0), Progress(10, 15.0), 0.25, 90),
        (Length(None, 60.0), Progress(10, 90.0), 1.5, 0),
    ],
)
def test_how_far_a_run_has_come(length, progress, share, left):
    assert length.share_done(progress) == share
    assert length.steps_left(progress, 0.5) == left


def test_a_run_of_minutes_ends(text, tmp_path, capsys):
    assert train_mini_gpt2.main([str(text), "--out", str(tmp_path / "out"), "--minutes", "0.002", *ON_CPU]) == 0
    assert "bits a byte" in capsys.readouterr().out


def test_measuring_a_step_leaves_the_model_and_the_batches_as_they_were():
    model = build_model(RECIPE, 300, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert training.step_seconds(model, Windows(torch.arange(299).repeat(9), 16, 4, 0), RECIPE, False, 0) > 0
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_windows_cover_each_epoch_once_and_do_not_depend_on_history():
    ids = torch.arange(1000)
    windows = Windows(ids, context=16, batch=4, seed=3)
    epoch = torch.cat([windows[step] for step in range(windows.per_epoch)])
    assert len(epoch[:, 0].unique()) == len(epoch)
    assert (epoch[:, 1:] - epoch[:, :-1] == 1).all()
    later = windows[windows.per_epoch + 2]
    assert torch.equal(Windows(ids, 16, 4, 3)[windows.per_epoch + 2], later)
    assert not torch.equal(windows[2], later)


def test_score_is_the_mean_over_every_token_but_the_first(tiny):
    ids = torch.randint(97, (150,))
    nats, bits = bits_per_byte(tiny, ids, byte_count=400)
    expected = []
    for start in range(0, 149, 64):
        window = ids[start : start + 65]
        logp = tiny(window[None, :-1]).logits[0].double().log_softmax(-1)
        expected += [-logp[i, token].item() for i, token in enumerate(window[1:])]
    assert len(expected) == 149
    assert nats == pytest.approx(sum(expected) / 149, abs=1e-5)
    assert bits == pytest.approx(nats / math.log(2) * 150 / 400)


@pytest.mark.parametrize(
    "step, done, share",
    [
        (0, 0.0, 1 / 300),
        (149, 0.01, 0.5),
        (5, 0.025, 0.5),  # a short run rises in its first twentieth
        (500, 0.5, 1),
        (800, 0.8, 0.5),
        (999, 1.0, 0.005),
    ],
)
def test_learning_rate_rises_stays_and_falls(step, done, share):
    assert training.learning_rate_share(step, done) == pytest.approx(share)


def test_scoring_prints_bits_a_byte(text, trained, capsys):
    assert train_mini_gpt2.main([str(text), "--score", str(trained), "--quiet"]) == 0
    assert "bits a byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, code, sentence",
    [
        (["--width", "15"], 2, "not a multiple of the 2 heads"),
        (["--vocabulary", "256"], 2, "need 257"),
        (["--minutes", "0"], 2, "above 0"),
        (["--minutes", "nan"], 2, "above 0"),
        (["--learning-rate", "-1"], 2, "between 0 and 1"),
        (["--dropout", "1"], 2, "below 1"),
        (["--seed", "x"], 2, "not a whole number"),
        (["--batch", "0"], 2, "at least 1"),
        (["--batch", "100000"], 2, "smaller batch or context"),
        (["--steps", "3", "--minutes", "1"], 2, "not allowed with"),
        (["--device", "cuda:99"], 1, "cuda:99"),
    ],
)
def test_numbers_that_cannot_be_meant(text, tmp_path, capsys, options, code, sentence):
    assert train_mini_gpt2.main([str(text), "--out", str(tmp_path / "out"), *SHAPE, *options]) == code
    assert sentence in capsys.readouterr().err


def test_texts_that_cannot_be_used(tmp_path, capsys):
    cases = {
        "missing.txt": None,
        "latin.txt": b"caf\xe9 " * 200,
        "bad.xz": b"not xz",
        "zeros.txt": b"\0" * 9,
    }
    for name, raw in cases.items():
        path = tmp_path / name
        if raw is not None:
            path.write_bytes(raw)
        assert train_mini_gpt2.main([str(path), "--out", str(tmp_path / "out"), *ON_CPU]) == 1
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ")
        assert name in message
        assert "\n" not in message


def test_a_text_too_short_for_any_batch(tmp_path, capsys):
    path = tmp_path / "short.txt"
    for count, code, sentence in ((5, 1, "too short"), (10, 2, "and one batch takes 33; give more text")):
        path.write_text("Such words. " * count, encoding="utf-8")
        argv = [str(path), "--out", str(tmp_path / "out"), "--device=cpu", "--steps=1"]
        assert train_mini_gpt2.main(argv) == code
        assert sentence in capsys.readouterr().err


def test_checkpoints_that_do_not_fit(text, trained, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    assert train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "50", *ON_CPU, "--seed", "5"]) == 1
    assert "was made with seed 0" in capsys.readouterr().err
    (folder / "checkpoint.safetensors").write_bytes(b"damaged")
    assert train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "50", *ON_CPU]) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_file_held_out_is_scored_by_the_same_number_whatever_was_learnt(text, trained, tmp_path, capsys):
    """`--held-out` on what the split holds out, beside the split's own score."""
    _, held_out = read_documents(text)
    file = tmp_path / "held.txt"
    file.write_text("\n<|endoftext|>\n".join(held_out), encoding="utf-8")
    assert train_mini_gpt2.main([str(text), "--score", str(trained), "--quiet"]) == 0
    expected = capsys.readouterr().out
    argv = [str(text), "--held-out", str(file), "--score", str(trained), "--quiet"]
    assert train_mini_gpt2.main(argv) == 0
    assert capsys.readouterr().out == expected
