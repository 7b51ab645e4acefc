"""The installed commands are the scripts: the same beginning, the same end, the same examples under their own names."""

import ast
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from types import SimpleNamespace

import pytest

import multi_layer_decoding_demo as demo
import multi_layer_text_demo as text_demo
from conftest import ROOT, SOURCE
from layer_decoding.cli import commands
from layer_decoding.cli.commands import as_called
from refusals import assert_sentence

BEGIN = """
if __name__ == '__main__':
    from layer_decoding.cli.process import begin, leave
    begin()
"""
LEAVE = """
if __name__ == '__main__':
    leave(main())
"""


def test_they_are_the_declared_ones():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert list(declared) == list(commands.SCRIPTS)
    for target in declared.values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))


def test_nothing_else_is_called_by_name():
    with pytest.raises(AttributeError, match="no_such_command"):
        _ = commands.no_such_command


def test_one_is_its_script_from_the_first_import_to_the_end(monkeypatch):
    done = []
    monkeypatch.setattr(commands, "begin", lambda: done.append("begin"))
    monkeypatch.setattr(commands, "import_module", lambda name: done.append(name) or import_module(name))
    monkeypatch.setattr(commands, "leave", done.append)
    monkeypatch.setattr("sys.argv", ["multi-layer-text", "--width=none"])
    commands.multi_layer_text()
    assert done == ["begin", "multi_layer_text_demo", 2]


@pytest.mark.parametrize("script", sorted(SOURCE.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_begins_and_leaves_as_one(script):
    _, first, *_, last = map(ast.unparse, ast.parse(script.read_text(encoding="utf-8")).body)
    assert (first, last) == (BEGIN.strip(), LEAVE.strip())


# ---------------------------------------------------------------- how each is typed

TYPED = "python fit_lens_demo.py tales.txt, then echo 5 | python multi_layer_decoding_demo.py --lens linear"


def called_by(monkeypatch, program, module=None):
    """Pretend that the process was started so."""
    monkeypatch.setattr("sys.argv", [program])
    spec = None if module is None else SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))


@pytest.mark.parametrize(
    "program, module, fit, decode",
    [
        ("/somewhere/bin/multi-layer-text", None, "multi-layer-fit-lens", "multi-layer-decoding"),
        (f"{SOURCE}/skip_model_demo.py", "skip_model_demo", "python -m fit_lens_demo", "python -m {}"),
        (f"{SOURCE}/skip_model_demo.py", None, f"python {SOURCE}/fit_lens_demo.py", f"python {SOURCE}/{{}}.py"),
        ("/somewhere/bin/pytest", None, "python fit_lens_demo.py", "python {}.py"),
        ("", None, "python fit_lens_demo.py", "python {}.py"),
    ],
)
def test_a_script_is_named_as_it_is_started_here(program, module, fit, decode, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    called_by(monkeypatch, program, module)
    decode = decode.format("multi_layer_decoding_demo")
    assert as_called(TYPED) == f"{fit} tales.txt, then echo 5 | {decode} --lens linear"


def test_in_the_source_folder_by_its_bare_name(monkeypatch):
    monkeypatch.chdir(SOURCE)
    called_by(monkeypatch, "multi_layer_text_demo.py")
    assert as_called(TYPED) == TYPED
    assert as_called("python another.py, python.py") == "python another.py, python.py"


def test_help_has_the_examples_of_the_command_that_was_called(monkeypatch, capsys):
    called_by(monkeypatch, "/somewhere/bin/multi-layer-decoding")
    assert demo.main(["--help"]) == 0
    usage, _, examples = capsys.readouterr().out.partition("\nexamples:\n")
    assert usage.startswith("usage: multi-layer-decoding [PROMPT]")
    lines = examples.splitlines()
    assert len(lines) > 3
    assert all("multi-layer-decoding" in line for line in lines)
    assert "python" not in examples


@pytest.mark.parametrize("program, script", [("multi-layer-text", "multi-layer-fit-lens"), ("pytest", "python ")])
def test_a_lens_that_is_missing_is_fitted_by_what_can_be_typed(program, script, monkeypatch, capsys, tiny_copy):
    """With the model that was given, whatever its folder is called."""
    folder = tiny_copy.rename(tiny_copy.with_name("my model"))
    called_by(monkeypatch, f"/somewhere/bin/{program}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny_copy.parent))
    assert demo.main(["a", "--model", f"{folder}/", "--lens", "linear", "--quiet"]) == 1
    said = capsys.readouterr().err
    command = shlex.split(said.partition("fit one with ")[2].partition(", or use")[0])
    assert said.partition("fit one with ")[2].startswith(script)
    assert command[-3:] == ["TEXT", "--model", f"{folder}/"]


# ---------------------------------------------------------------- completion


def completion_of(shell, monkeypatch, capsys, tmp_path):
    """What an installed command prints for a shell, in a file."""
    pytest.importorskip("shtab")
    called_by(monkeypatch, "/somewhere/bin/multi-layer-text")
    assert text_demo.main(["--print-completion", shell]) == 0
    file = tmp_path / f"completion.{shell}"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "words, found",
    [
        (["--view", "t"], {"table", "track", "text"}),
        (["--device-map", ""], {"auto", "balanced"}),
        (["--s"], {"--sublayers", "--step", "--save"}),
        (["--save", "pa"], {"page.html", "page.csv"}),
        (["--model", "pa"], {"page.html", "page.csv"}),
        (["pa"], {"page.html", "page.csv"}),
    ],
)
def test_bash_completes_options_choices_and_files(words, found, monkeypatch, capsys, tmp_path):
    file = completion_of("bash", monkeypatch, capsys, tmp_path)
    for name in ("page.html", "page.csv"):
        (tmp_path / name).touch()
    script = f"source {file}; COMP_WORDS=({shlex.join(['multi-layer-text', *words])}); COMP_CWORD={len(words)}"
    call = "_shtab_multi_layer_text; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-c", f"{script}; {call}"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(shell, monkeypatch, capsys, tmp_path):
    file = completion_of(shell, monkeypatch, capsys, tmp_path)
    said = file.read_text(encoding="utf-8")
    assert "multi-layer-text" in said
    assert "probability entropy kl rank surprise" in said
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(file)], check=True)


def test_without_shtab_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert demo.main(["--print-completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert_sentence(err.removeprefix("error: ").rstrip("\n"), "shtab", "pip install shtab")
