"""Training on a text of a few sentences: repeatable, resumable, scored as defined, and what it writes opens."""

import math
import random
import shutil

import pytest
import torch

import train_mini_gpt2
from layer_decoding import decode_layers, load_model
from layer_decoding.training.corpus import Windows, read_documents
from layer_decoding.training.training import Recipe, bits_per_byte, build_model, learning_rate_share

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
    fresh = build_model(Recipe(2, 16, 2, 16, 300), 300, 0).eval()
    loaded = load_model(f"{trained}/", device="cpu")
    ids = torch.tensor(loaded.tokenizer.encode(held_out[0]))
    assert bits_per_byte(loaded.model, ids, 100)[0] < bits_per_byte(fresh, ids, 100)[0] - 0.4


def test_same_seed_same_weights_and_another_seed_others(text, trained, tmp_path):
    first = (trained / "model.safetensors").read_bytes()
    for seed, same in (("0", True), ("1", False)):
        folder = tmp_path / seed
        train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "40", "--seed", seed, *ON_CPU])
        assert ((folder / "model.safetensors").read_bytes() == first) == same


def test_resuming_sees_what_an_unbroken_run_sees(text, tmp_path):
    """Stopped in the part of constant learning rate, then finished: the weights of one run."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    stop = pytest.MonkeyPatch()
    from layer_decoding.training import training

    def run(folder):
        return train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "30", *ON_CPU])

    assert run(whole) == 0

    real = training.save_checkpoint

    def save_then_stop(path, model, optimizers, recipe, progress):
        real(path, model, optimizers, recipe, progress)
        if progress.step == 10:
            raise KeyboardInterrupt

    stop.setattr(training, "save_checkpoint", save_then_stop)
    stop.setattr(training.train, "__kwdefaults__", training.train.__kwdefaults__ | {"checkpoint_every": 10})
    assert run(broken) == 130
    stop.undo()
    assert run(broken) == 0
    assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()


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


def test_learning_rate_rises_stays_and_falls():
    assert learning_rate_share(0, 0.0) == pytest.approx(1 / 200)
    assert learning_rate_share(500, 0.5) == 1
    assert learning_rate_share(800, 0.8) == pytest.approx(0.5)
    assert learning_rate_share(999, 1.0) == pytest.approx(0.01)


def test_documents_are_split_once_and_for_all(text):
    training, held_out = read_documents(text)
    assert (len(training), len(held_out)) == (39, 1)
    assert read_documents(text) == (training, held_out)


def test_a_text_without_marks_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text("\n\n".join(f"Paragraph {n}. " + "word " * 60 for n in range(40)), encoding="utf-8")
    training, held_out = read_documents(path)
    assert sum(document.count("Paragraph") for document in training + held_out) == 40


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
        (["--batch", "0"], 2, "at least 1"),
        (["--batch", "100000"], 2, "smaller --batch"),
        (["--steps", "3", "--minutes", "1"], 2, "not allowed with"),
        (["--device", "cuda:99"], 1, "cuda:99"),
    ],
)
def test_numbers_that_cannot_be_meant(text, tmp_path, capsys, options, code, sentence):
    assert train_mini_gpt2.main([str(text), "--out", str(tmp_path / "out"), *SHAPE, *options]) == code
    assert sentence in capsys.readouterr().err


def test_texts_that_cannot_be_used(tmp_path, capsys):
    cases = {"missing.txt": None, "latin.txt": b"caf\xe9 " * 200, "short.txt": b"Too short.", "bad.xz": b"not xz"}
    for name, raw in cases.items():
        path = tmp_path / name
        if raw is not None:
            path.write_bytes(raw)
        assert train_mini_gpt2.main([str(path), "--out", str(tmp_path / "out"), *ON_CPU]) == 1
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ")
        assert name in message
        assert "\n" not in message


def test_checkpoints_that_do_not_fit(text, trained, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    assert train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "50", *ON_CPU, "--seed", "5"]) == 1
    assert "was made with seed 0" in capsys.readouterr().err
    (folder / "checkpoint.safetensors").write_bytes(b"damaged")
    assert train_mini_gpt2.main([str(text), "--out", str(folder), "--steps", "50", *ON_CPU]) == 1
    assert "damaged; delete it" in capsys.readouterr().err
