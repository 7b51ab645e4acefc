"""The README in every language: its length, what is pasted from it, its links; and what a wheel must carry is there."""

import importlib.metadata
import re
from itertools import chain

import pytest

import make_pages
from conftest import ROOT

TEXTS = {page: page.read_text(encoding="utf-8") for page in make_pages.PAGES}
README = TEXTS[ROOT / "README.md"]
in_every_language = pytest.mark.parametrize("page", make_pages.READMES, ids=lambda page: page.name)


@in_every_language
def test_it_is_a_page(page):
    assert len(TEXTS[page].splitlines()) <= 200


def test_what_is_pasted_stands_first():
    """`.ci/run` takes the first two blocks, one line each: everything set up and run, then the tests."""
    first, second, *_ = re.findall(r"^```bash\n(.*?)\n```", README, re.DOTALL | re.MULTILINE)
    assert re.fullmatch(
        r"python3 -m venv .*pip install -r requirements.txt .*python multi_layer_decoding_demo.py\)", first
    )
    assert re.fullmatch(r"pip install .*python -m pytest", second)


def test_it_leads_to_every_page_of_the_guide():
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\((gpt2_[^)#]+)", README)}
    assert set(make_pages.GUIDE.glob("*.md")) <= linked


@in_every_language
def test_it_leads_to_the_other_languages(page):
    first, *_ = TEXTS[page].splitlines()
    linked = {(page.parent / target).resolve() for target in re.findall(r"\]\(([^)]+)\)", first)}
    assert linked == {other.resolve() for other in make_pages.READMES if other != page}


@in_every_language
def test_the_lesson_in_reading_is_true(page, mini, prompt_ids):
    """Steps and layers named behind `and` and `sun` are where the model says them, and from which layer on."""
    from layer_decoding import decode_layers

    decoding = decode_layers(mini.model, prompt_ids, 13, measures=False)
    tokens = [mini.tokenizer.decode([token]).strip() for token in decoding.final_row.ids]
    settled = list(zip(tokens, range(1, 14), decoding.settles_at, strict=True))
    for token in ("and", "sun"):
        places = [place for said, *place in settled if said == token]
        behind = re.search(rf"`{token}`" + r"\D*(\d+)" * 2 * len(places), TEXTS[page])
        assert [int(number) for number in behind.groups()] == list(chain.from_iterable(places))


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", make_pages.PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", TEXTS[page])
    assert targets
    for target in targets:
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            there = page.parent / file if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors_of(there), target


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
    assert {"layer_decoding/files/page/page.html.j2", "multi_layer_decoding_demo.py"} <= files
    assert "multi-layer-decoding" in {entry.name for entry in installed[0].entry_points}
