"""The beam search script from its command line: what it prints, what it writes, what it refuses."""

import io
import json
import re
import signal
import subprocess
import sys

import pytest

import multi_layer_beam_search_decoding_demo as script
from conftest import SOURCE
from layer_decoding import beam_search
from layer_decoding.cli.input import DEFAULT_PROMPT
from layer_decoding.cli.progress import NoProgress, ProgressLine
from layer_decoding.models import loading

SMALL = ["--model", "mini", "--num-beams", "3", "--max-new-tokens", "4"]


@pytest.fixture(autouse=True)
def loaded_once(mini, monkeypatch):
    """The bundled model is read from disk once for all."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: mini)


def test_the_default_answer(capsys, mini, prompt_ids):
    assert script.main([*SMALL, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"Prompt: {DEFAULT_PROMPT}"
    assert lines[2].split() == ["rank", "score", "log", "p", "n", "text"]
    search = beam_search(mini.model, prompt_ids, 4, num_beams=3)
    for line, text in zip(lines[3:6], search.hypotheses, strict=True):
        rank, score, logprob, length = line.split()[:4]
        assert (int(rank), int(length)) == (text.rank, 4)
        assert float(score) == pytest.approx(text.score, abs=1e-4)
        assert float(logprob) == pytest.approx(text.logprob_nats, abs=1e-3)
    assert lines[6].startswith("greedy")


def test_notices_go_to_stderr(capsys):
    assert script.main(SMALL) == 0
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "Loading mini ..."
    assert "3 beams of up to 4 tokens in" in err


def test_everything_at_once(capsys):
    options = [
        "--trace",
        "--layers",
        "6,9",
        "--view",
        "rows",
        "--no-repeat-ngram-size",
        "2",
        "--num-return-sequences",
        "2",
    ]
    assert script.main([*SMALL, *options, "--quiet", "--width", "100", "once upon a time"]) == 0
    out = capsys.readouterr().out
    for part in (
        "Layer 6\n",
        "Layer 9\n",
        "Layer 12, the model\n",
        "\nfree ",
        "The search, step by step",
        "\nRank 1, layer by layer\n",
    ):
        assert part in out
    assert max(map(len, out.splitlines())) <= 100


def test_json_and_the_saved_file_are_the_same_document(capsys, tmp_path, mini, prompt_ids):
    target = tmp_path / "search.json"
    options = ["--trace", "--layers", "all", "--view", "rows", "--no-repeat-ngram-size", "2"]
    assert script.main([*SMALL, *options, "--json", "--quiet", "--save", str(target)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out == target.read_text()
    document = json.loads(out)
    assert document["schema"] == "layer-decoding/beam/1"
    assert document["prompt"] == {"text": DEFAULT_PROMPT, "ids": prompt_ids}
    assert (document["num_beams"], document["length_penalty"], document["no_repeat_ngram_size"]) == (3, 1.0, 2)
    search = beam_search(mini.model, prompt_ids, 4, num_beams=3, no_repeat_ngram_size=2)
    best = document["hypotheses"][0]
    assert (best["rank"], best["ids"], best["finished"]) == (1, list(search.hypotheses[0].ids), False)
    assert best["score"] == pytest.approx(sum(best["token_logprob_nats"]) / 4, abs=1e-9)
    assert best["text"] == mini.tokenizer.decode(best["ids"])
    assert set(document["greedy"]) >= {"ids", "text", "logprob_nats"}
    assert document["unrestricted"]["logprob_nats"] >= best["logprob_nats"] - 1e-4
    assert [block["layer"] for block in document["layers"]] == list(range(1, 13))
    assert document["layers"][-1]["hypotheses"] == document["hypotheses"]
    assert [step["step"] for step in document["trace"]] == [1, 2, 3, 4]
    assert set(document["trace"][0]["beams"][0]) == {"ids", "logprob_nats", "parent", "state"}
    assert document["lens"][-1]["agrees"] == [
        a == b for a, b in zip(document["lens"][-1]["ids"], best["ids"], strict=True)
    ]


def test_what_was_not_asked_for_is_not_in_the_document(capsys):
    assert script.main([*SMALL, "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "trace" not in document
    assert "lens" not in document
    assert (document["layers"], document["unrestricted"]) == ([], None)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--num-beams", "0"], "The number of beams is 0; it must be at least 1."),
        (["--num-beams", "-3"], "The number of beams is -3"),
        (["--num-beams", "two"], "Argument --num-beams: invalid int value: 'two'"),
        (["--num-beams", "2", "--num-return-sequences", "3"], "3 sequences cannot be returned from 2 beams"),
        (["--num-return-sequences", "0"], "The number of returned sequences is 0"),
        (["--no-repeat-ngram-size", "-1"], "The n-gram size is -1"),
        (["--length-penalty", "nan"], "The length penalty is nan"),
        (["--length-penalty", "inf"], "The length penalty is inf"),
        (["--length-penalty=-inf"], "The length penalty is -inf"),
        (["--length-penalty", "1e9"], "leave the range of float32"),
        (["--max-new-tokens", "0"], "too small"),
        (["--max-new-tokens", "800"], "more than the 512 of the model's context"),
        (["--layers", "13"], "Layer 13 is out of range"),
        (["--layers", "9-6"], "runs backwards"),
        (["--layers", "six"], "not a list of layers"),
        (
            ["--save", "search.txt"],
            "Cannot tell from its name what to write to 'search.txt'; end it in .html or .svg or .csv or .json; see",
        ),
        ([""], "The prompt is empty"),
        (["--beams", "3"], "nrecognized arguments: --beams"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, arguments, sentence):
    assert script.main(["--model", "mini", *arguments, "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sentence in err


@pytest.mark.parametrize("target", ["/no/such/folder/a.json", "{folder}/dir.json"])
def test_an_unwritable_target_is_noticed_before_decoding(capsys, monkeypatch, tmp_path, target):
    (tmp_path / "dir.json").mkdir()
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    assert script.main([*SMALL, "--save", target.format(folder=tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith("error: Cannot write '")


def test_too_many_beams_for_the_memory(capsys):
    assert script.main(["--model", "mini", "--num-beams", "100000000", "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "100000000 × " in err
    assert "× 12 layers × 256 × 2 × 4 bytes = " in err
    assert err.count("\n") == 1


def test_a_prompt_of_escapes_and_emoji(capsys):
    assert script.main([*SMALL, "--quiet", "--trace", "\x1b[31mred\u202e 👩‍👩‍👧 \n"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31mred\\u202e" in out


def test_a_stream_that_knows_only_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert script.main([*SMALL, "--quiet", "--trace"]) == 0
    stream.flush()
    out = stream.buffer.getvalue().decode("ascii")
    assert "+---------------+" in out
    assert "\\u" not in out


def test_interrupted_while_searching_prints_what_was_found(capsys, monkeypatch):
    def stop(self, step, newest):  # noqa: ARG001
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(NoProgress, "on_step", stop)
    assert script.main([*SMALL, "--trace", "--quiet"]) == 130
    out, err = capsys.readouterr()
    assert "The search was interrupted: these are the texts and beams it had." in out
    assert [line.split()[3] for line in out.splitlines()[3:6]] == ["3", "3", "3"]
    assert re.search(r"^   3  .*●", out, re.MULTILINE)
    assert not re.search(r"^   4  ", out, re.MULTILINE)
    assert err.strip() == "Interrupted."
    assert script.main([*SMALL, "--json", "--quiet"]) == 130
    assert capsys.readouterr().out == ""


def test_interrupted_by_a_signal(capsys, monkeypatch, tmp_path):
    def on_step(_self, step, _newest):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressLine, "on_step", on_step)
    assert script.main([*SMALL, "--save", str(tmp_path / "search.json")]) == 130
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "The search was interrupted" in out
    assert err.endswith("\nInterrupted.\n")
    assert not list(tmp_path.iterdir())


def test_help_fits_a_screen_and_imports_no_torch():
    code = (
        "import sys, multi_layer_beam_search_decoding_demo as script; script.main(['--help']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
