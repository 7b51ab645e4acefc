"""A lens on disk: what is written is what is read, and whatever else is refused in one sentence."""

import hashlib
import json
from argparse import Namespace
from dataclasses import replace

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file

import fit_lens_demo
from conftest import STORY, random_gpt2
from fitted import some_lens
from layer_decoding import decode_layers, load_model
from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import find_blocks
from layer_decoding.lens.fitted.file import cached_place, lens_bytes, named_lens, read_lens
from layer_decoding.lens.fitted.tuned_folder import read_tuned_folder
from layer_decoding.lens.lens import find_lens
from refusals import assert_sentence


@pytest.fixture
def lens(tiny):
    return replace(some_lens(tiny), origin={"tokens": 7})


@pytest.fixture
def file(tmp_path, lens):
    (tmp_path / "lens.safetensors").write_bytes(lens_bytes(lens))
    return tmp_path / "lens.safetensors"


def refused(path, model):
    """The sentence with which a lens is refused."""
    with pytest.raises(LayerDecodingError) as caught:
        read_lens(path, model)
    assert_sentence(str(caught.value))
    return str(caught.value)


def test_what_is_written_is_read(tiny, lens, file):
    read = read_lens(file, tiny)
    assert torch.equal(read.matrices, lens.matrices.half().float())
    assert torch.equal(read.biases, lens.biases)
    assert torch.equal(read.scales, lens.scales)
    assert (read.layers, read.name, read.origin) == ((1, 2, 3), "linear", {"tokens": 7})


def test_another_models_and_a_damaged_file(tiny, file, tmp_path):
    assert "another model" in refused(file, random_gpt2(1))
    assert "There is no lens" in refused(tmp_path / "none.safetensors", tiny)
    file.write_bytes(file.read_bytes()[:-100])
    assert "not the whole file" in refused(file, tiny)
    file.write_bytes(b"text")
    assert "not the whole file" in refused(file, tiny)


@pytest.mark.parametrize(
    "edit",
    [
        lambda tensors, _: tensors.pop("biases"),
        lambda tensors, _: tensors.update(matrices=tensors["matrices"][:2]),
        lambda tensors, _: tensors["biases"].fill_(float("nan")),
        lambda _, header: header.update(layers=[1, 1, 2]),
        lambda _, header: header.update(layers=[1, 2, 9]),
        lambda _, header: header.update(format="another"),
        lambda _, header: header.pop("fingerprint"),
        lambda _, header: header.clear(),
    ],
)
def test_a_file_that_does_not_fit_together(tiny, file, edit):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        header = json.loads(opened.metadata()["lens"])
    tensors = load_file(file)
    edit(tensors, header)
    save_file(tensors, file, {"lens": json.dumps(header)})
    assert "not the whole file" in refused(file, tiny)


def test_linear_is_the_lens_beside_the_model_or_in_the_cache(tiny_copy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    loaded = load_model(f"{tiny_copy}/", device="cpu")
    assert named_lens("plain", loaded) is None
    with pytest.raises(LayerDecodingError) as caught:
        named_lens("linear", loaded)
    assert_sentence(str(caught.value), "python fit_lens_demo.py TEXT --model")
    cached = cached_place(loaded.model)
    assert cached.parent == tmp_path / "cache" / "multi-layer-decoding"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(lens_bytes(some_lens(loaded.model, seed=1)))
    (tmp_path / "other.safetensors").write_bytes(lens_bytes(some_lens(loaded.model, seed=2)))
    in_cache = named_lens("linear", loaded).biases
    (tiny_copy / "lens.safetensors").write_bytes(lens_bytes(some_lens(loaded.model, seed=3)))
    beside = named_lens("linear", loaded).biases
    other = named_lens(str(tmp_path / "other.safetensors"), loaded).biases
    assert [some_lens(loaded.model, seed=seed).biases.tolist() for seed in (1, 2, 3)] == [
        in_cache.tolist(),
        other.tolist(),
        beside.tolist(),
    ]


# ---------------------------------------------------------------- the package tuned-lens


def save_as_tuned_lens(folder, model, bias=True):
    """Residual translators of dice in the layout of tuned-lens 0.2.0."""
    generator = torch.Generator().manual_seed(0)
    state = {f"{layer}.weight": torch.randn(32, 32, generator=generator) / 8 for layer in range(4)}
    if bias:
        state |= {f"{layer}.bias": torch.randn(32, generator=generator) for layer in range(4)}
    shown = numpy.array_str(model.lm_head.weight.float().numpy(), precision=1)
    config = {"base_model_name_or_path": "tiny", "d_model": 32, "num_hidden_layers": 4, "bias": bias}
    config |= {"unembed_hash": hashlib.sha256(shown.encode()).hexdigest(), "lens_type": "linear_tuned_lens"}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(state, folder / "params.pt")
    return state


@pytest.mark.parametrize("bias", [True, False])
def test_a_tuned_lens_adds_its_translation(tiny, tmp_path, bias):
    state = save_as_tuned_lens(tmp_path, tiny, bias)
    lens = read_lens(tmp_path, tiny)
    assert (lens.name, lens.layers) == ("tuned", (0, 1, 2, 3))
    hidden = tiny(torch.tensor([[5, 17, 42]]), output_hidden_states=True).hidden_states
    for layer in lens.layers:
        row = hidden[layer][0, -1:]
        moved = row + row @ state[f"{layer}.weight"].T + state.get(f"{layer}.bias", 0)
        expected = tiny.lm_head(tiny.transformer.ln_f(moved))
        assert torch.allclose(find_lens(tiny, lens).logits(row, [layer]), expected, atol=1e-4)
    assert len(decode_layers(tiny, [5, 17], 3, layers=[0], lens=lens).rows) == 2


def test_the_packages_own_numbers(tiny, tmp_path):
    package = pytest.importorskip("tuned_lens.nn.lenses")
    tiny.config.name_or_path = "tiny"
    theirs = package.TunedLens.from_model(tiny)
    for translator in theirs:
        torch.nn.init.normal_(translator.weight, std=0.1)
        torch.nn.init.normal_(translator.bias)
    theirs.save(tmp_path)
    ours = find_lens(tiny, read_tuned_folder(tmp_path, find_blocks(tiny)))
    hidden = torch.randn(5, 32)
    for layer in range(4):
        assert torch.allclose(ours.logits(hidden, [layer] * 5), theirs(hidden, layer), atol=1e-4)


def test_a_tuned_lens_that_is_none(tiny, tmp_path):
    save_as_tuned_lens(tmp_path, tiny)
    assert "another model" in refused(tmp_path, random_gpt2(1))
    assert "another model" in refused(tmp_path, random_gpt2(n_layer=3))
    owned = tmp_path / "owned"
    (tmp_path / "params.pt").write_bytes(f"cposix\nsystem\n(S'touch {owned}'\ntR.".encode())
    assert "nothing but tensors" in refused(tmp_path, tiny)
    assert not owned.exists()
    (tmp_path / "params.pt").unlink()
    assert "no whole lens" in refused(tmp_path, tiny)


# ---------------------------------------------------------------- the script that fits


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("<|endoftext|>".join(f"{number}. {STORY}" for number in range(30)))
    return tmp_path / "text.txt"


def test_the_script_writes_a_lens_and_measures_it(tiny_folder, text, tmp_path, capsys):
    out = tmp_path / "fitted.safetensors"
    out.write_bytes(b"before")
    argv = [str(text), "--model", f"{tiny_folder}/", "--tokens", "2000", "--device", "cpu", "--out", str(out)]
    assert fit_lens_demo.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:3]] == [["KL"] * 3 + ["agrees"] * 3, ["plain", "constant", "linear"] * 2]
    lens = read_lens(out, load_model(f"{tiny_folder}/", device="cpu").model)
    assert lens.layers == (1,)
    assert (lens.origin["text"], lens.origin["penalty"], len(lens.origin["held_out_bits"])) == ("text.txt", 0.0, 1)
    assert lens.origin["tokens"] < 2000


def test_the_script_tunes_on_and_measures_on_as_many_tokens_as_asked(tiny_folder, text, tmp_path, capsys):
    out = tmp_path / "tuned.safetensors"
    argv = [str(text), "--model", f"{tiny_folder}/", "--tokens", "500", "--device", "cpu", "--out", str(out)]
    assert fit_lens_demo.main([*argv, "--steps", "2", "--held-out", "70"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " of 70, read in " in lines[0]
    assert lines[2].split() == ["plain", "constant", "linear", "tuned"] * 2
    lens = read_lens(out, load_model(f"{tiny_folder}/", device="cpu").model)
    assert (lens.name, lens.origin["steps"], lens.origin["tokens"] < 500) == ("tuned", 2, True)


def test_a_slow_fit_says_once_how_long_it_will_take(capsys):
    watch = fit_lens_demo.Watch(Namespace(quiet=False), total=1000)
    watch.on_step(50, {})
    assert capsys.readouterr().err == ""  # too early to tell
    watch.started -= 20
    watch.on_step(100, {})
    watch.on_step(110, {})
    assert capsys.readouterr().err.count("This will take about 3 minutes") == 1
    watch.progress.close()


def test_as_few_tokens_of_each_document_as_that_takes(mini):
    documents = [("word " * count).strip() for count in (400, 30, 400)]
    lengths = [len(ids) for ids in fit_lens_demo.some_ids(mini, documents, 100)]
    assert lengths == [40, lengths[1], 100 - 40 - lengths[1]]
    assert 30 <= lengths[1] < 40
    whole = [mini.tokenizer.encode(document) for document in documents]
    assert fit_lens_demo.some_ids(mini, documents, 10_000) == whole


def test_a_fit_that_is_refused_leaves_what_was_there(tiny_folder, text, tmp_path, capsys):
    out = tmp_path / "fitted.safetensors"
    out.write_bytes(b"before")
    argv = [str(text), "--model", f"{tiny_folder}/", "--tokens", "100", "--out", str(out)]
    assert fit_lens_demo.main(argv) == 2
    assert "at least 320 tokens" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
    assert fit_lens_demo.main([*argv[:-4], "--held-out", "1", *argv[-2:]]) == 2
    assert "1 held-out tokens" in capsys.readouterr().err
    assert out.read_bytes() == b"before"
    assert fit_lens_demo.main([str(text), "--out", str(tmp_path / "lens.pt")]) == 2
