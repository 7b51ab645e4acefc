"""Every command that a page shows is one that its script takes; the cheap ones among them run."""

import argparse
import re
import shlex
import shutil
import sys
from itertools import pairwise, takewhile
from pathlib import Path
from runpy import run_path

import pytest

import make_pages

TEXTS = {page.name: page.read_text(encoding="utf-8") for page in make_pages.PAGES}


def commands_in(text):
    """Each `python SCRIPT.py …` as (script, argument, …): to the end of its line, code span or comment, or a pipe."""
    for line in re.findall(r"\bpython (?=(\S+\.py\b[^\n`]*))", text):
        lexer = shlex.shlex(line.partition("-->")[0], posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        yield tuple(takewhile(lambda word: not set(word) <= set("();<>|&"), lexer))


BLOCKS = [block for text in TEXTS.values() for block in make_pages.BLOCK.finditer(text)]
EXECUTED = {tuple(shlex.split(block["command"])[1:]) for block in BLOCKS}  # by test_outputs.py
COMMANDS = sorted({command for text in TEXTS.values() for command in commands_in(text)} - EXECUTED)


def exit_code_of(command, monkeypatch):
    """What a script's main() returns, or exits with, for this command line."""
    script, *argv = command
    monkeypatch.setattr(sys, "argv", [script, *argv])
    try:
        folder = make_pages.ROOT if "/" in script else make_pages.SOURCE
        monkeypatch.syspath_prepend(str((folder / script).parent))  # as Python does for a script
        return run_path(str(folder / script))["main"]()
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def parse_only(monkeypatch):
    """Scripts end, with 0, as soon as their command line is understood."""
    whole = argparse.ArgumentParser.parse_args

    def parse(parser, *arguments):
        whole(parser, *arguments)
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)


def test_commands_are_found_wherever_they_stand():
    text = """
    A=1 python one.py --save x.json | less
    (cd there && python two.py "a; b" --n 3) && python tests/three.py
    in a line `python four.py -` <!-- run: python five.py --six -->
    """
    found = list(commands_in(text))
    assert found == [
        ("one.py", "--save", "x.json"),
        ("two.py", "a; b", "--n", "3"),
        ("tests/three.py",),
        ("four.py", "-"),
        ("five.py", "--six"),
    ]


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_its_parser_takes_it(command, monkeypatch):
    assert exit_code_of(command, monkeypatch) == 0


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("script", ["multi_layer_decoding_demo.py", "tests/benchmarks/text.py"])
def test_a_wrong_option_is_noticed(script, monkeypatch):
    assert exit_code_of((script, "--no-such-option"), monkeypatch) == 2


@pytest.mark.parametrize("command", [c for c in COMMANDS if "mini" in c], ids=" ".join)
def test_it_runs_on_the_bundled_model(command, monkeypatch, tmp_path, capsys):
    """In a folder of its own, with the tale where the source folder has it."""
    for folder in ("source", "tests/support"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(make_pages.ROOT / "tests" / "support" / "tale.txt", tmp_path / "tests" / "support")
    monkeypatch.chdir(tmp_path / "source")
    assert exit_code_of((*command, "--quiet"), monkeypatch) == 0
    assert len(capsys.readouterr().out.splitlines()) > 5
    saved = [after for option, after in pairwise(command) if option == "--save"]
    assert {path.name for path in Path.cwd().iterdir()} == set(saved)


@pytest.mark.parametrize("name", ["README.vi.md", "README.zh.md"])
def test_what_else_a_translated_page_has_to_type_is_the_readmes(name):
    """Setting up is a line that the README has too, letter by letter: it is tried there, in a fresh clone."""
    lines = {
        page: "".join(re.findall(r"^```bash\n(.*?)^```", TEXTS[page], re.DOTALL | re.MULTILINE)).splitlines()
        for page in ("README.md", name)
    }
    others = [line for line in lines[name] if not re.match(r"([A-Z_]+=\S+ )?python \S+\.py\b", line)]
    assert others == [lines["README.md"][0]]
