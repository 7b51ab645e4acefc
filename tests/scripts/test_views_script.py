"""The greedy script's views and files from its command line: what is computed, what is refused, what is written."""

import csv
import json
import re

import pytest

import multi_layer_decoding_demo as demo
from layer_decoding.cli.progress import ProgressLine
from layer_decoding.decoding import greedy
from layer_decoding.models import loading
from layer_decoding.terminal.pieces import Pieces
from pages import data_of, parsed
from pictures import frames_in, lines_drawn
from refusals import assert_refused

SHORT = ("--max-new-tokens", "4", "--quiet")


@pytest.fixture
def run(capsys, monkeypatch, mini):
    """main(argv) as (exit code, stdout, stderr), on the bundled model, which is read from disk once for all."""
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: mini)

    def run(*argv):
        code = demo.main([str(argument) for argument in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def decodings(monkeypatch):
    """The arguments of every decoding that is made: (prompt, new tokens, options)."""
    made, decode_layers = [], greedy.decode_layers

    def recorded(model, prompt_ids, max_new_tokens, **options):
        made.append((prompt_ids, max_new_tokens, options))
        return decode_layers(model, prompt_ids, max_new_tokens, **options)

    monkeypatch.setattr(greedy, "decode_layers", recorded)
    return made


# ---------------------------------------------------------------- what is shown and what is computed for it


@pytest.mark.parametrize(
    "options, measured",
    [
        ([], False),
        (["--view", "rows"], False),
        (["--view", "table"], True),
        (["--view", "steps"], True),
        (["--view", "track"], False),
        (["--json"], True),
        (["--save", "a.csv"], True),
    ],
)
def test_measures_are_computed_where_something_needs_them(run, decodings, tmp_path, monkeypatch, options, measured):
    monkeypatch.chdir(tmp_path)
    assert run(*SHORT, *options)[0] == 0
    assert decodings[0][2]["measures"] is measured


def test_rows_are_the_view_without_a_choice(run):
    assert run(*SHORT, "--view", "rows") == run(*SHORT)


def test_table(run):
    code, out, _ = run(*SHORT, "--view", "table", "--layers", "6,12")
    assert code == 0
    assert out.splitlines()[2].split() == ["Layer", "1", "2", "3", "4"]
    assert [line.split()[0] for line in out.splitlines()[3:5]] == ["6", "12"]
    ranks = run(*SHORT, "--view", "table", "--layers", "6,12", "--measure", "rank")[1].splitlines()
    assert re.sub("[▂▄▆█]", " ", ranks[5]).split() == ["12", "1*", "1*", "1*", "1*"]


@pytest.mark.parametrize(
    "layers, shown", [([], [12]), (["6"], [6]), (["6,12"], [6, 12]), (["all"], list(range(1, 13)))]
)
def test_steps_are_of_the_last_layer_or_of_those_given(run, layers, shown):
    out = run(*SHORT, "--view", "steps", *(f"--layers={value}" for value in layers))[1]
    assert [int(number) for number in re.findall(r"^Layer (\d+)  ", out, re.MULTILINE)] == shown
    assert "Layer 12 gives the 4 tokens it wrote" in out


@pytest.fixture
def written(mini, prompt_ids):
    """The first four tokens of the text, as they look, whatever model is bundled."""
    ids = greedy.decode_layers(mini.model, prompt_ids, 4, measures=False).final_row.ids
    return Pieces(mini.tokenizer).of(ids)


def test_track_shows_the_tokens_on_top_anywhere(run, decodings, written):
    """Nothing after the step is decoded; which tokens are on top is known after it, so that it is read again, once."""
    decodings.clear()
    code, out, _ = run(*SHORT, "--view", "track", "--step", 4)
    assert code == 0
    ((_, new, _),) = decodings
    assert new == 4
    assert out.splitlines()[1] == "Then:  " + "".join(written[:3])
    assert out.count(" rank ") > 1
    assert re.search(rf"^{re.escape(written[3])}\* +p ", out, re.MULTILINE)


def test_tracked_words_need_no_second_look(run, decodings, written):
    decodings.clear()
    other = " the" if written[3] != " the" else " and"
    code, out, _ = run(*SHORT, "--view", "track", "--track", written[3], "--track", other, "--step", 4)
    assert code == 0
    assert len(decodings) == 1
    assert len(decodings[0][2]["track"]) == 2
    assert [line.split()[0] for line in out.splitlines() if " p " in line] == [f"{written[3].strip()}*", other.strip()]


def test_a_word_that_is_another_token_inside_a_text_is_named(run):
    _, _, err = run("--view", "track", "--track", "the")
    assert "Tracking 'the'; with a space before it, ' the', it is another token." in err
    assert "another token" not in run("--view", "track", "--track", " the")[2]


# ---------------------------------------------------------------- what is refused


UNSEEN = "the last layer does not read the other layers' texts"


@pytest.mark.parametrize(
    "options, words",
    [
        (["--view", "cells"], ["'cells'", "table"]),
        (["--view", "table", "--measure", "delight"], ["'delight'", "entropy"]),
        (["--measure", "kl"], ["--view table", "rows"]),
        (["--view", "steps", "--measure", "kl"], ["--view table", "steps"]),
        (["--view", "table", "--measure", "kl", "--context", "own"], ["kl", UNSEEN]),
        (["--view", "table", "--measure", "rank", "--context", "own"], ["rank", UNSEEN]),
        (["--view", "track", "--context", "own"], [UNSEEN]),
        (["--track", " the"], ["--track", "--view track"]),
        (["--view", "table", "--step", 3], ["--step", "--view track", "table"]),
        (["--view", "track", "--step", 0], ["0", "at least 1"]),
        (["--view", "track", "--step", 21], ["21", "20"]),
        (["--view", "track", "--step", 5, "--max-new-tokens", 4], ["5", "4"]),
        (["--view", "track", "--track", ""], ["empty"]),
        (["--view", "table", "--width", 5], ["5", "at least 20"]),
        (["--save", "rows.pdf"], ["rows.pdf", ".html", ".svg", ".csv", ".json"]),
        (["--save", "rows"], ["'rows'"]),
    ],
)
def test_refused_before_a_model_is_loaded(run, monkeypatch, options, words):
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model is loaded"))
    assert_refused(run(*options), 2, *words)


def test_a_word_of_several_tokens_is_refused_before_decoding(run, decodings):
    assert_refused(
        run("--view", "track", "--track", "zq the"), 2, "'zq the', is ", "'z', 'q'", "' the'", "track one of them"
    )
    assert decodings == []


def test_a_step_after_the_end_of_the_text(run, mini, prompt_ids, monkeypatch):
    ids = greedy.decode_layers(mini.model, prompt_ids, 3, measures=False).final_row.ids
    monkeypatch.setattr(greedy, "end_ids", lambda _: [ids[2]])
    length = ids.index(ids[2]) + 1
    assert_refused(run("--view", "track", "--step", 4, "--quiet"), 2, "no step 4", f"after {length} token")


def test_widths_too_small(run):
    assert_refused(run(*SHORT, "--view", "track", "--width", 22), 2, "24 cells", "22")
    assert_refused(run(*SHORT, "--view", "steps", "--layers", "6", "--width", 20), 2, "cells", "20")


# ---------------------------------------------------------------- files


def test_every_file_is_of_one_decoding(run, decodings, tmp_path):
    files = {kind: tmp_path / f"result.{kind}" for kind in ("csv", "json", "html")}
    options = [option for file in files.values() for option in ("--save", file)]
    code, out, err = run("--max-new-tokens", 4, "--view", "table", *options)
    assert code == 0
    assert len(decodings) == 1
    assert out == run(*SHORT, "--view", "table")[1]
    assert [f"Saved {file}." in err for file in files.values()] == [True] * 3
    document = json.loads(files["json"].read_text(encoding="ascii"))
    assert files["json"].read_text(encoding="ascii") == run(*SHORT, "--json")[1]
    with files["csv"].open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12 * 4
    for line, (row, step) in zip(lines, ((row, t) for row in document["rows"] for t in range(4)), strict=True):
        assert (int(line["layer"]), int(line["id"])) == (row["layer"], row["ids"][step])
        assert float(line["kl_to_final_bits"]) == row["kl_to_final_bits"][step]
    page = files["html"].read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert all(row["text"].split()[0] in page for row in document["rows"])


@pytest.mark.parametrize("context", ["shared", "own"])
def test_a_picture_of_the_rows_moves_as_the_live_view_did(run, monkeypatch, tmp_path, context):
    """Frame for frame what was drawn on the screen, then the answer."""
    drawn, render_growing, file = [], demo.render_growing, tmp_path / "rows.svg"

    def recorded(*arguments):
        drawn.append(render_growing(*arguments))
        return drawn[-1]

    monkeypatch.setattr(demo, "render_growing", recorded)
    monkeypatch.setattr(demo, "redraws", lambda _: True)
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("LINES", "99")
    options = ("--max-new-tokens", 6, "--layers", "1,9", "--context", context, "--width", 70)
    assert run(*options, "--save", file)[0] == 0
    svg = file.read_bytes()
    assert [lines_drawn(svg, number) for number in range(frames_in(svg) - 1)] == [bare(lines) for lines in drawn]
    assert len(drawn) == 6
    assert lines_drawn(svg) == bare(run(*options, "--quiet")[1].splitlines())
    run(*options, "--quiet", "--save", file)
    assert frames_in(file.read_bytes()) == 7  # whether or not anybody looked on
    run(*options, "--quiet", "--no-live", "--save", file)
    assert frames_in(file.read_bytes()) == 1


def bare(lines):
    """Lines as a picture without marks has them."""
    return [line.translate({ord(mark): "" for mark in "[]"}).rstrip(" ") for line in lines]


def test_a_picture_is_named_after_its_command(run, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["/somewhere/multi_layer_decoding_demo.py"])
    files = [tmp_path / name for name in ("a.svg", "b.svg")]
    assert run(*SHORT, "a 'b'", "--view", "table", f"--save={files[0]}", "--save", files[1])[0] == 0
    said = "python multi_layer_decoding_demo.py --max-new-tokens 4 --quiet &#x27;a &#x27;&quot;&#x27;"
    assert f"<title>{said}" in files[0].read_text(encoding="utf-8")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert frames_in(files[0].read_bytes()) == 1


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(run, monkeypatch, tmp_path):
    file = tmp_path / "a.svg"
    file.write_text("old")
    monkeypatch.setattr("layer_decoding.files.picture.runs_of", lambda _: 1 / 0)
    assert run(*SHORT, "--save", file)[0] == 1
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_own_context_in_files(run, tmp_path):
    options = [option for kind in ("csv", "html") for option in ("--save", tmp_path / f"own.{kind}")]
    assert run(*SHORT, "--context", "own", *options)[0] == 0
    with (tmp_path / "own.csv").open(encoding="utf-8", newline="") as file:
        assert {line["kl_to_final_bits"] for line in csv.DictReader(file)} == {""}


def test_the_page_says_why_where_that_can_be_said(run, tmp_path):
    page = tmp_path / "page.html"

    def whys_of(*options):
        assert run("--max-new-tokens", 3, "--save", page, *options)[0] == 0
        data = data_of(parsed(page.read_text(encoding="utf-8")))
        return [[data["names"][step[key]] for key in ("token", "against")] for step in data["why"]["steps"]]

    usual = whys_of()
    assert [token for token, _ in usual] == [" when", " the", " sun"]
    asked = whys_of("--view", "why", "--step", 2, "--against", " moon")
    assert asked == [usual[0], [" the", " moon"], usual[2]]
    assert whys_of("--context", "own") == whys_of("--lens", "linear") == []


def test_two_lenses_are_on_one_page(run, tmp_path):
    """Along the same text, which is the model's whatever reads its layers."""
    page = tmp_path / "page.html"
    assert run("--max-new-tokens", 3, "--lens", "plain,linear", "--save", page)[0] == 0
    data = data_of(parsed(page.read_text(encoding="utf-8")))
    assert [reading["lens"] for reading in data["readings"]] == ["plain", "linear"]
    assert data["why"]["steps"] == []
    for reading in data["readings"]:
        rows = json.loads(run("--max-new-tokens", 3, "--lens", reading["lens"], "--json")[1])["rows"]
        names = [[data["names"][place] for place in tokens] for tokens in reading["tokens"]]
        assert names == [row["tokens"] for row in rows]


def test_two_lenses_need_a_page_and_one_text(run, tmp_path):
    both = ["--lens", "plain,linear"]
    assert_refused(run(*SHORT, *both, "--save", tmp_path / "a.json"), 2, "--save page.html")
    assert_refused(run(*SHORT, *both, "--context", "own", "--save", tmp_path / "a.html"), 2, "--context shared")


def test_json_on_stdout_beside_a_file(run, tmp_path):
    code, out, _ = run(*SHORT, "--json", "--save", tmp_path / "a.json")
    assert code == 0
    assert out == (tmp_path / "a.json").read_text(encoding="ascii")


@pytest.mark.parametrize("name", ["nowhere/a.csv", "folder.csv"])
def test_a_file_that_cannot_be_written_is_noticed_before_a_model_is_loaded(run, tmp_path, monkeypatch, name):
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model is loaded"))
    code, out, err = run("--save", tmp_path / name)
    assert (code, out) == (1, "")
    assert name in err


def stop_at(step):
    """A progress line at which the reader presses Ctrl-C."""

    def on_step(self, now, newest):  # noqa: ARG001
        if now == step:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("view", ["table", "steps"])
def test_ctrl_c_shows_what_was_finished_and_writes_no_file(run, tmp_path, monkeypatch, view):
    whole = run("--max-new-tokens", 3, "--quiet", "--view", view)[1]
    old = tmp_path / "old.csv"
    old.write_text("kept")
    monkeypatch.setattr(ProgressLine, "on_step", stop_at(3))
    code, out, err = run("--max-new-tokens", 9, "--view", view, "--save", old)
    assert (code, out) == (130, whole)
    assert err.splitlines()[-1] == "Interrupted."
    assert [file.read_text() for file in tmp_path.iterdir()] == ["kept"]


def test_ctrl_c_before_the_step_to_track(run, monkeypatch):
    monkeypatch.setattr(ProgressLine, "on_step", stop_at(2))
    code, out, _ = run("--view", "track", "--step", 4)
    assert (code, out) == (130, "")
