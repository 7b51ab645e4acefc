"""The installed commands are the scripts: the same beginning, the same end, the same examples under their own names."""

import ast
import tomllib
from importlib import import_module

import pytest

from conftest import ROOT, SOURCE
from layer_decoding.cli import commands

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
    monkeypatch.setattr("sys.argv", ["multi-layer-text", "--no-such-option"])
    commands.multi_layer_text()
    assert done == ["begin", "multi_layer_text_demo", 2]


@pytest.mark.parametrize("script", sorted(SOURCE.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_begins_and_leaves_as_one(script):
    _, first, *_, last = map(ast.unparse, ast.parse(script.read_text(encoding="utf-8")).body)
    assert (first, last) == (BEGIN.strip(), LEAVE.strip())
