"""Dialogues: read with line numbers, learnt by heart in characters, asked, and open to every other script."""

import io
import json
import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import multi_layer_beam_search_decoding_demo
import multi_layer_decoding_demo
import multi_layer_sampling_decoding_demo
import multi_layer_text_demo
import train_mini_gpt2
from conftest import ROOT, SOURCE
from layer_decoding import load_model
from layer_decoding.models.prompts import encode_prompt
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.training.dialogues import (
    NOT_LEARNT,
    DialogueBatches,
    answer,
    encode_dialogues,
    prompt_of,
    read_dialogues,
    recall,
)
from layer_decoding.training.vocabulary import train_tokenizer

SAMPLE = ROOT / "tests" / "support" / "dialogues.tsv"
PAIRS = [line.split("\t") for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
SHAPE = ["--layers=2", "--width=64", "--heads=2", "--context=64", "--learning-rate=0.02", "--device=cpu", "--quiet"]
LANGUAGES = pytest.mark.parametrize("question, expected", [PAIRS[0], PAIRS[12], PAIRS[24]], ids=["vi", "zh", "en"])


def train(folder, *options, dialogues=SAMPLE):
    """The exit code of training into a folder."""
    return train_mini_gpt2.main(["--dialogues", str(dialogues), "--out", str(folder), *SHAPE, *options])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that has learnt the sample, a character a token."""
    folder = tmp_path_factory.mktemp("talk")
    assert train(folder, "--tokenizer=characters", "--steps=150") == 0
    return folder


@pytest.fixture(scope="module")
def loaded(folder):
    return load_model(f"{folder}/", device="cpu")


@pytest.fixture(scope="module")
def characters():
    """A tokenizer that has seen the sample."""
    return train_tokenizer([side for pair in PAIRS for side in pair], "characters", 4096, 64)


# ---------------------------------------------------------------- learnt by heart


def test_every_answer_comes_out_exactly(loaded):
    got = [answer(loaded.model, loaded.tokenizer, question) for question, _ in PAIRS]
    assert got == [(expected, True) for _, expected in PAIRS]


@LANGUAGES
def test_ask_prints_the_answer_alone(folder, capsys, question, expected):
    assert train_mini_gpt2.main(["--ask", f" {question} ", "--out", str(folder), "--device=cpu"]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


@pytest.mark.slow
def test_the_shape_that_is_chosen_learns_them_too(tmp_path, capsys):
    """The README's command, and every answer as it is printed."""
    options = ["--tokenizer=characters", "--width=96", "--steps=200", "--device=cpu"]
    assert train_mini_gpt2.main(["--dialogues", str(SAMPLE), "--out", str(tmp_path), *options]) == 0
    capsys.readouterr()
    for question, expected in PAIRS:
        assert train_mini_gpt2.main(["--ask", question, "--out", str(tmp_path), "--device=cpu", "--quiet"]) == 0
        assert capsys.readouterr().out == f"{expected}\n"


def test_words_and_pieces_of_words_learn_them_too(tmp_path, capsys):
    assert train(tmp_path, "--steps=120") == 0
    assert "step 120: 0.0" in capsys.readouterr().out
    assert train_mini_gpt2.main(["--dialogues", str(SAMPLE), "--score", str(tmp_path), "--quiet"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.startswith("30 dialogues, ")
    assert line.endswith("30 of 30 answers exact")


def test_an_answer_without_an_end_fills_the_context(loaded, monkeypatch):
    monkeypatch.setattr(loaded.model.generation_config, "eos_token_id", 300)
    text, finished = answer(loaded.model, loaded.tokenizer, "Xin chào!")
    assert not finished
    assert text.startswith(PAIRS[0][1])


def test_what_a_terminal_obeys_is_escaped(folder, capsys, monkeypatch):
    monkeypatch.setattr("layer_decoding.training.dialogues.answer", lambda *_: ("a\x1b[31m\n\u202eb", False))
    assert train_mini_gpt2.main(["--ask", "a", "--out", str(folder), "--device=cpu"]) == 0
    out, err = capsys.readouterr()
    assert out == "a\\x1b[31m\\n\\u202eb\n"
    assert err.endswith("it fills the context.\n")


# ---------------------------------------------------------------- the other scripts


@LANGUAGES
def test_the_question_as_a_prompt_shows_every_layer(folder, capsys, question, expected):
    """The last layer writes the newline, the answer, and end-of-text; a prompt that ends in one, the answer."""
    for prompt, written in ((question, f"\n{expected}"), (f"{question}\n", expected)):
        argv = [prompt, "--model", f"{folder}/", f"--max-new-tokens={64 - len(prompt)}", "--json", "--quiet"]
        assert multi_layer_decoding_demo.main([*argv, "--device=cpu"]) == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert [row["layer"] for row in rows] == [1, 2]
        assert (rows[-1]["text"], rows[-1]["finished"]) == (written, True)
        assert rows[-1]["tokens"] == [*written, "<|endoftext|>"]


def test_rows_show_each_character_whole(folder, capsys):
    argv = ["你叫什么名字？", "--model", f"{folder}/", "--max-new-tokens", "13", "--quiet", "--color=never"]
    assert multi_layer_decoding_demo.main([*argv, "--device=cpu"]) == 0
    prompt, _, _, last, *_ = capsys.readouterr().out.splitlines()
    assert prompt == "Prompt: 你叫什么名字？"
    assert last == "Layer 2: ↵我是一个小小的语言模型。"


@pytest.mark.parametrize(
    "script, options",
    [
        (multi_layer_beam_search_decoding_demo, ["--num-beams=2"]),
        (multi_layer_sampling_decoding_demo, ["--temperature=0.1"]),
    ],
)
def test_beams_and_samples_know_the_answer(folder, capsys, script, options):
    argv = ["二加三等于几？", "--model", f"{folder}/", "--max-new-tokens=9", "--quiet", "--color=never", *options]
    assert script.main([*argv, "--device=cpu"]) == 0
    assert "二加三等于五。" in capsys.readouterr().out


def test_a_text_of_dialogues_is_read(folder, tmp_path, capsys):
    """The first dialogue alone, so that it stands where it was learnt: all but its question is known."""
    question, expected = PAIRS[12]
    file = tmp_path / "text.txt"
    file.write_text(f"{question}\n{expected}", encoding="utf-8")
    argv = [str(file), "--model", f"{folder}/", "--device=cpu", "--quiet", "--json"]
    assert multi_layer_text_demo.main(argv) == 0
    passage = json.loads(capsys.readouterr().out)["passage"]
    assert passage["tokens"] == [*question, "\n", *expected]
    assert passage["rows"][-1]["correct"][-len(expected) :] == [True] * len(expected)


# ---------------------------------------------------------------- characters as tokens


def test_each_character_seen_is_one_token_and_one_piece(characters):
    pieces = Pieces(characters)
    seen = {character for pair in PAIRS for side in pair for character in side} | {"\n", "\t", "~"}
    for character in seen:
        (token,) = characters.encode(character)
        assert pieces.of([token]) == [character]
    for question, expected in PAIRS:
        assert pieces.of(characters.encode(f"{question}\n{expected}")) == [*question, "\n", *expected]


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from([*"你好 Bạn\n\t\u2581Ġ"])))
def test_any_text_comes_back_as_it_was(characters, text):
    """Characters never seen included: each is the tokens of its bytes, and the last of them shows it."""
    ids = characters.encode(text)
    assert Pieces(characters).text(ids) == text
    assert characters.decode(ids) == text
    assert ids == [token for character in text for token in characters.encode(character)]


def test_a_character_never_seen_is_its_bytes(characters):
    assert Pieces(characters).of(characters.encode("你龘ก🦉好"))[-1] == "好"
    shown = Pieces(characters).of(characters.encode("龘"))
    assert len(shown) in (2, 3)
    assert [piece for piece in shown if piece] == ["龘"]


def test_only_the_commonest_characters_have_a_token_where_the_vocabulary_is_small():
    tokenizer = train_tokenizer(["好" * 9 + "吗" * 5 + "你"], "characters", 257 + 4, 64)
    assert len(tokenizer) == 261
    assert [len(tokenizer.encode(character)) for character in "好吗"] == [1, 1]
    assert len(tokenizer.encode("你")) > 1
    assert tokenizer.decode(tokenizer.encode("你好吗")) == "你好吗"


def test_other_programs_read_the_same_tokenizer(folder, loaded):
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = "".join("".join(pair) for pair in PAIRS) + " 龘 \n"
    assert other.encode(text) == loaded.tokenizer.encode(text)


# ---------------------------------------------------------------- what is learnt of a dialogue


def test_no_loss_on_the_question(characters):
    dialogues = read_dialogues(SAMPLE)
    for dialogue, (inputs, targets) in zip(dialogues, encode_dialogues(characters, dialogues, 64), strict=True):
        question = characters.encode(dialogue.question)
        learnt = [*characters.encode("\n" + dialogue.answer), characters.eos_token_id]
        assert inputs.tolist() == [*question, *learnt[:-1]]
        assert targets.tolist() == [*[NOT_LEARNT] * (len(question) - 1), *learnt]


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_prompt_typed_with_its_newline_is_the_one_that_was_learnt(kind):
    tokenizer = train_tokenizer([side for pair in PAIRS for side in pair], kind, 400, 64)
    for question, expected in PAIRS:
        assert encode_prompt(tokenizer, f"{question}\n") == prompt_of(tokenizer, question)
        whole = [*prompt_of(tokenizer, question), *tokenizer.encode(expected)]
        assert tokenizer.encode(f"{question}\n{expected}") == whole


@pytest.mark.parametrize("count, batch", [(30, 16), (30, 7), (5, 16), (1, 1), (16, 16)])
def test_every_dialogue_is_in_every_epoch_once(count, batch):
    rows = [torch.full((1 + number % 3,), number) for number in range(count)]
    pairs = [(row, row) for row in rows]
    batches = DialogueBatches(pairs, batch, seed=4)
    orders = []
    for epoch in range(2):
        inputs = [batches.batch(epoch * batches.per_epoch + index)[0] for index in range(batches.per_epoch)]
        assert max(map(len, inputs)) <= batch
        orders.append([row[0].item() for rows in inputs for row in rows])
        assert sorted(orders[-1]) == list(range(count))
    assert count == 1 or orders[0] != orders[1]
    later = batches.batch(batches.per_epoch)
    assert torch.equal(DialogueBatches(pairs, batch, seed=4).batch(batches.per_epoch)[0], later[0])


def test_recall_is_that_of_each_dialogue_alone(loaded):
    """Padding changes nothing; counted by hand, one after the other."""
    dialogues = read_dialogues(SAMPLE)
    pairs = encode_dialogues(loaded.tokenizer, dialogues, 64)
    pairs[3][1][-2] = 7  # not what the model writes
    nats, tokens = 0.0, 0
    for inputs, targets in pairs:
        logp = loaded.model(inputs[None]).logits[0].log_softmax(-1)
        learnt = [(at, target) for at, target in enumerate(targets.tolist()) if target != NOT_LEARNT]
        nats -= sum(logp[at, target].item() for at, target in learnt)
        tokens += len(learnt)
    mean, exact = recall(loaded.model, pairs)
    assert mean == pytest.approx(nats / tokens, rel=1e-4)
    assert exact == 29


# ---------------------------------------------------------------- files


def test_files_as_spreadsheets_write_them(tmp_path):
    file = tmp_path / "talk.tsv"
    file.write_bytes("\ufeffWho? \t Me.\r\n\r\n  \nWhy?\tSo\u2028so.".encode())
    assert [(d.question, d.answer) for d in read_dialogues(file)] == [("Who?", "Me."), ("Why?", "So\u2028so.")]


@pytest.mark.parametrize(
    "raw, code, words",
    [
        (None, 1, ["cannot be read"]),
        (b"", 1, ["no dialogue", "question, tab, answer"]),
        (b"\n \r\n", 1, ["no dialogue"]),
        (b"a\tb\nno tab here\n", 1, ["line 2", "no tab"]),
        (b"a\tb\n\nc\td\te\n", 1, ["line 3", "2 tabs"]),
        (b"\tanswer\n", 1, ["line 1", "empty question"]),
        (b"question\t \n", 1, ["line 1", "empty answer"]),
        (b"\t\n", 1, ["line 1", "empty question"]),
        (b"a\tb\ncaf\xe9\tx\n", 1, ["line 2", "UTF-8", "byte 3 is 0xe9"]),
        ("a\tb\n".encode("utf-16"), 1, ["line 1", "UTF-8"]),
        (b"a\tb\0c\n", 1, ["line 1", "1 zero bytes"]),
        (b"a\tb<|endoftext|>c\n", 1, ["line 1", "<|endoftext|>"]),
        (b"a\tb\n" + b"long " * 20 + b"\tanswer\n", 2, ["line 2", "tokens", "context is 64", "larger context"]),
    ],
)
def test_files_that_cannot_be_used(tmp_path, capsys, raw, code, words):
    file = tmp_path / "talk.tsv"
    if raw is not None:
        file.write_bytes(raw)
    assert train(tmp_path / "out", "--tokenizer=characters", "--steps=1", dialogues=file) == code
    message = capsys.readouterr().err.strip()
    assert re.fullmatch(r"error: \S[^\n]*\.", message)
    assert all(word in message for word in ["talk.tsv", *words])


def test_going_on(tmp_path, capsys):
    """With the same tokenizer only; a run that was over says so."""
    assert train(tmp_path, "--steps=2") == 0
    assert train(tmp_path, "--steps=3", "--tokenizer=characters") == 1
    assert "was made with tokenizer bpe" in capsys.readouterr().err
    assert train(tmp_path, "--steps=3") == 0
    argv = ["--dialogues", str(SAMPLE), "--out", str(tmp_path), *SHAPE[:-1], "--steps=3"]
    capsys.readouterr()
    assert train_mini_gpt2.main(argv) == 0
    assert "had gone as far before; raise --steps" in capsys.readouterr().err


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    "argv, code, words",
    [
        ([], 2, ["TEXT", "--dialogues", "--ask"]),
        (["a.txt", "--dialogues", "b.tsv"], 2, ["leave one out"]),
        (["--dialogues", "b.tsv", "--held-out", "c.txt"], 2, ["leave out --held-out"]),
        (["a.txt", "--ask", "Who?"], 2, ["leave out TEXT"]),
        (["--dialogues", "b.tsv", "--ask", "Who?"], 2, ["leave out --dialogues"]),
        (["--ask", "Who?", "--steps", "5"], 2, ["leave out --steps"]),
        (["--ask", "Who?", "--minutes", "5"], 2, ["leave out --minutes"]),
        (["--ask", "Who?", "--score", "x"], 2, ["leave out --score"]),
        (["--ask", "Who?", "--layers", "3"], 2, ["leave out --layers"]),
        (["--ask", "Who?", "--learning-rate", "0.1"], 2, ["leave out --learning-rate"]),
        (["--ask", "Who?", "--tokenizer", "characters"], 2, ["leave out --tokenizer"]),
        (["--ask", ""], 2, ["question is empty"]),
        (["--ask", " \n"], 2, ["question is empty"]),
        (["--ask", "caf\udce9"], 2, ["UTF-8"]),
        (["--tokenizer", "words"], 2, ["'words'", "characters"]),
        (["--ask", "Who?", "--out", "not/there"], 1, ["not/there holds no trained model", "--dialogues"]),
    ],
)
def test_command_lines_that_cannot_be_meant(tmp_path, monkeypatch, capsys, argv, code, words):
    monkeypatch.chdir(tmp_path)
    assert train_mini_gpt2.main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: \S[^\n]*\.\n", err)
    assert all(word in err for word in words)


def test_a_folder_whose_training_was_broken_off(tmp_path, folder, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes((folder / "checkpoint.safetensors").read_bytes())
    assert train_mini_gpt2.main(["--ask", "Who?", "--out", str(tmp_path)]) == 1
    assert "holds no trained model" in capsys.readouterr().err


def test_a_question_longer_than_the_context(folder, capsys):
    assert train_mini_gpt2.main(["--ask", "long " * 30, "--out", str(folder), "--quiet", "--device=cpu"]) == 2
    assert "150 tokens" in capsys.readouterr().err


def test_a_question_from_a_pipe(folder, monkeypatch, capsys):
    question, expected = PAIRS[0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{question}\n".encode())))
    assert train_mini_gpt2.main(["--ask", "-", "--out", str(folder), "--device=cpu", "--quiet"]) == 0
    assert capsys.readouterr() == (f"{expected}\n", "")


def test_help_fits_a_screen_and_usage_errors_come_before_torch(capsys):
    code = "import sys, train_mini_gpt2 as s; s.main(['--ask', '']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, check=False).returncode == 0
    assert train_mini_gpt2.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
