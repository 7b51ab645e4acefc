"""The sampling script from its command line, in process: what it prints, what it writes, what it refuses."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

import multi_layer_sampling_decoding_demo as script
from conftest import SOURCE
from layer_decoding import sample, truncate
from layer_decoding.cli.input import DEFAULT_PROMPT
from layer_decoding.decoding.sampling import Sampler
from layer_decoding.files import figure as plots
from layer_decoding.models import loading
from pictures import lines_drawn

SMALL = ["--model", "mini", "--max-new-tokens", "4"]


@pytest.fixture(autouse=True)
def loaded_once(mini, monkeypatch):
    """The bundled model is read from disk once for all; nothing is piped in."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: mini)
    monkeypatch.setattr(sys, "stdin", None)


@pytest.fixture
def run(capsys):
    """main(argv) as (exit code, stdout, stderr)."""

    def run(*argv):
        code = script.main([*SMALL, *map(str, argv)])
        return code, *capsys.readouterr()

    return run


# ---------------------------------------------------------------- what is shown


def test_the_default_run_is_six_blocks(run, mini, prompt_ids):
    code, out, err = run("--quiet")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:4] == [f"Prompt: {DEFAULT_PROMPT}", "Seed:   0", "", "        log p   bits  distinct  repeats"]
    names = ["Greedy", "Temperature 0.5", "Temperature 1", "Temperature 2", "Top-k 50", "Top-p 0.9"]
    assert [line for line in lines if line in names] == names
    rows = [line for line in lines if re.match(r"  [12] ", line)]
    assert len(rows) == 10
    pure = sample(mini.model, prompt_ids, 4, num_samples=2).samples
    for row, drawn in zip(rows[2:4], pure, strict=True):
        assert float(row.split()[1]) == pytest.approx(drawn.logprob_nats, abs=0.01)
    assert "mean of 2" in out


def test_combinations_are_run(run):
    out = run("--temperature", "0,0.7", "--top-k", "0,5", "--num-samples", 1, "--quiet")[1]
    blocks = [line for line in out.splitlines() if line.startswith(("Temperature", "Greedy"))]
    assert blocks == [
        "Greedy",
        "Temperature 0",
        "Temperature 0, top-k 5",
        "Temperature 0.7",
        "Temperature 0.7, top-k 5",
    ]
    assert "mean of" not in out


def test_a_sample_that_is_greedy_has_no_mark(run):
    lines = run("--temperature", "0", "--num-samples", 2, "--quiet")[1].splitlines()
    greedy = lines[5][4:]
    assert [line[4:] for line in lines[8:10]] == [greedy, greedy]


def test_the_seed_is_shown_and_counts(run):
    texts = {seed: run("--temperature", 1, "--seed", seed, "--quiet")[1] for seed in (0, 1, -7)}
    assert all(f"Seed:   {seed}\n" in out for seed, out in texts.items())
    assert len({out.partition("\n\n")[2] for out in texts.values()}) == 3


def test_more_samples_leave_the_first_as_they_were(run):
    def block(count):
        out = run("--temperature", 1.5, "--num-samples", count, "--quiet")[1]
        return [line for line in out.splitlines() if re.match(r"  [12] ", line)]

    assert block(2) == block(5)


def test_panels(run):
    out = run("--distribution", "--top-p", 0.8, "--num-samples", 1, "--quiet")[1]
    assert re.search(r"Temperature 0: 1 of 8,192 tokens can be drawn", out)
    assert re.search(r"Top-p 0\.8: [\d,]+ of 8,192 tokens can be drawn; the model gives them 80\.\d%\.", out)
    assert out.count("─ cut ─") == 2
    assert "along sample 1" in out


def test_layers_draw_with_the_same_dice(run, mini, prompt_ids):
    code, out, _ = run("--layers", "0,6", "--temperature", 2, "--json", "--num-samples", 2, "--quiet")
    document = json.loads(out)
    assert code == 0
    assert [layer["layer"] for layer in document["layers"]] == [0, 6, 12]
    for layer in document["layers"]:
        drawn = sample(truncate(mini.model, layer["layer"]), prompt_ids, 4, temperature=2.0, num_samples=2).samples
        assert [one["ids"] for one in layer["settings"][0]["samples"]] == [list(one.ids) for one in drawn]
    assert document["layers"][-1]["settings"] == document["settings"]
    shown = run("--layers", "0,6", "--temperature", 2, "--quiet")[1]
    headings = [line for line in shown.splitlines() if line.startswith("Layer")]
    assert headings == [
        "Layer 0, the model cut off after it",
        "Layer 6, the model cut off after it",
        "Layer 12, the model",
    ]


def test_all_layers(run):
    document = json.loads(run("--layers", "all", "--top-k", 3, "--json", "--quiet")[1])
    assert [layer["layer"] for layer in document["layers"]] == list(range(1, 13))


def test_no_layers_asked_for_none_there(run):
    document = json.loads(run("--json", "--quiet")[1])
    assert document["layers"] == []
    settings = [
        [setting[name] for name in ("temperature", "top_k", "top_p", "min_p")] for setting in document["settings"]
    ]
    assert settings == [[0.5, 0, 1, 0], [1, 0, 1, 0], [2, 0, 1, 0], [1, 50, 1, 0], [1, 0, 0.9, 0]]


def test_notices_go_to_stderr(run):
    code, out, err = run("--top-k", 9000, "--json", "--distribution")
    assert code == 0
    assert json.loads(out)["settings"][0]["top_k"] == 9000
    assert "Top-k 9,000 cuts nothing off: the vocabulary has 8,192 tokens." in err
    assert "--distribution" in err
    assert re.search(r"3 texts of up to 4 tokens in \d", err)


# ---------------------------------------------------------------- files


def test_json_and_the_saved_file_are_the_same_document(run, tmp_path):
    target = tmp_path / "samples.json"
    assert run("--json", "--quiet", "--save", target)[1] == target.read_text()


def test_a_saved_picture_shows_what_is_printed(run, tmp_path):
    """All blocks and the view of a sample, with --json too, where nothing of it is printed."""
    options = ("--temperature", "0,1", "--distribution", "--view", "rows", "--width", 70, "--color", "never", "--quiet")
    for more in ([], ["--json"]):
        run(*options, *more, "--save", tmp_path / "a.svg")
        drawn = lines_drawn((tmp_path / "a.svg").read_bytes())
        assert drawn == [line.rstrip(" ") for line in run(*options)[1].splitlines()]


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib (the plot extra) is missing")
def test_both_kinds_of_file(run, tmp_path):
    code, out, err = run("--save", tmp_path / "a.png", "--save", tmp_path / "a.json")
    assert code == 0
    assert out.startswith("Prompt:")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "a.json").read_text())["seed"] == 0
    assert err.count("Saved ") == 2


def test_a_picture_without_matplotlib_is_refused_before_any_work(run, monkeypatch, tmp_path):
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    code, out, err = run("--save", tmp_path / "a.png")
    assert (code, out) == (1, "")
    assert err == (
        "error: A .png file is drawn with matplotlib, which is not installed; run 'pip install matplotlib' first.\n"
    )


def test_a_folder_that_is_not_there(run, tmp_path):
    code, out, err = run("--save", tmp_path / "no" / "a.json")
    assert (code, out) == (1, "")
    assert "Cannot write" in err


# ---------------------------------------------------------------- what cannot be meant


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--temperature", "-1"], ["-1", "greedy"]),
        (["--temperature", "nan"], ["nan", "finite"]),
        (["--temperature", "1e999"], ["inf", "finite"]),
        (["--temperature", "warm"], ["'warm'", "number"]),
        (["--temperature", "0.5,,1"], ["''", "--temperature"]),
        (["--temperature"], ["--temperature"]),
        (["--top-k", "-1"], ["-1", "0 (off)"]),
        (["--top-k", "2.5"], ["'2.5'", "whole number"]),
        (["--top-p", "0"], ["Top-p is 0"]),
        (["--top-p", "1.5"], ["1.5", "at most 1"]),
        (["--min-p", "1"], ["Min-p is 1", "below 1"]),
        (["--min-p=-0.5"], ["-0.5"]),
        (["--num-samples", "0"], ["0", "at least 1"]),
        (["--seed", "luck"], ["'luck'", "whole number"]),
        (["--seed", "1.5"], ["'1.5'"]),
        (
            ["--temperature", "1,2,3,4,5", "--top-k", "1,2,3,4,5", "--top-p", ".1,.2,.3,.4,.5"],
            ["125 runs", "at most 100"],
        ),
        (["--layers", "1-12", "--temperature", "1,2,3,4,5,6,7,8,9"], ["12 models", "108 runs"]),
        (["--layers", "all", "--temperature", "1,2,3,4,5,6,7,8,9"], ["12 models", "108 runs"]),
        (["--layers", "13"], ["13 is out of range"]),
        (["--save", "a.pdf"], ["a.pdf", ".json", ".png"]),
        (["--max-new-tokens", "600"], ["600", "at most 506"]),
        ([""], ["prompt is empty"]),
        (["two", "prompts"], ["prompts"]),
        (["--beams", "3"], ["--beams"]),
    ],
)
def test_usage_errors(run, argv, words):
    code, out, err = run("--quiet", *argv)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_more_samples_than_the_memory_holds(run):
    code, out, err = run("--num-samples", 10**12, "--quiet")
    assert (code, out) == (1, "")
    assert "too small for 1000000000000 samples" in err


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("json_too", [False, True])
def test_ctrl_c_leaves_what_was_finished(run, monkeypatch, json_too):
    """In the second step of the second setting: greedy and the first are whole, of the second one token is there."""
    real, calls = Sampler.sample, []

    def interrupted(self, setting, num_samples, seed, on_step):
        calls.append(setting)

        def stop(step, newest):
            on_step(step, newest)
            if len(calls) == 3 and step == 1:
                raise KeyboardInterrupt

        return real(self, setting, num_samples, seed, stop)

    monkeypatch.setattr(Sampler, "sample", interrupted)
    code, out, err = run("--temperature", "0.5,1", *["--json"] * json_too)
    assert code == 130
    assert err.endswith("\nInterrupted.\n")
    assert "Traceback" not in err
    if json_too:
        assert out == ""
    else:
        lines = out.splitlines()
        assert [line for line in lines if line.startswith(("Greedy", "Temp"))] == [
            *("Greedy", "Temperature 0.5", "Temperature 1")
        ]
        assert lines[-2].split()[3] == "1"  # distinct tokens


# ---------------------------------------------------------------- the shell


def test_help_fits_a_screen_and_imports_no_torch():
    code = (
        "import sys, multi_layer_sampling_decoding_demo as script\n"
        "script.main(['--help']); print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True).stdout
    *lines, imported = out.splitlines()
    assert imported == "False False"
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80
    for option in ("temperature", "top-k", "top-p", "min-p", "num-samples", "seed", "distribution", "layers", "save"):
        assert f"--{option} " in out


def test_another_process_draws_the_same_and_without_a_picture_imports_no_matplotlib(run):
    settings = ["--num-samples", "2", "--distribution", "--quiet"]
    code = (
        "import sys, multi_layer_sampling_decoding_demo as script\n"
        f"script.main({[*SMALL, *settings, '--json']}); script.main({[*SMALL, *settings]})\n"
        "print('matplotlib' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=SOURCE,
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "", "PYTHONIOENCODING": "ascii", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    ).stdout
    assert out.isascii()
    document, _, printed = out.decode().partition("\n")
    assert json.loads(document)["settings"] == json.loads(run(*settings, "--json")[1])["settings"]
    assert "\\u" not in printed
    assert printed.endswith("\nFalse\n")
