"""Drawn terminals: every sign in its cell and nothing but text; frames as they were printed, or only the last."""

import re
from dataclasses import fields
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from browser import Browser, find_browser
from contrasts import contrast
from layer_decoding.files.picture import _colours, frames_before, picture, terminal_drawn
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.looks import read_painted
from layer_decoding.terminal.pieces import shown
from layer_decoding.terminal.theme import MINIMUM_WIDTH, PLAIN, Terminal
from layer_decoding.views.rows import render_decoding, render_stages
from layer_decoding.views.table import render_table
from pages import HOSTILE, made_up, pieces_of
from pictures import frames_in, lines_drawn
from row_texts import OUR_ESCAPES, PIECES, TABLE

ELEMENTS = {"svg", "title", "style", "rect", "circle", "text", "tspan", "g"}
ATTRIBUTES = {
    *("viewBox", "width", "height", "x", "y", "rx", "cx", "cy", "r", "fill", "stroke", "transform", "id", "class"),
    *("textLength", "lengthAdjust", "text-anchor", "{http://www.w3.org/XML/1998/namespace}space"),
}
WIDE = ["你好, 世界", "a👩\u200d👧b", "e\u0301e\u0301 ñ", "שלום", "▁▂▃ │├", "  two  gaps", "", "👍🏽👍🏽 end"]


def plain(lines):
    """What is seen of painted lines; of a blank that bears an accent no gap is made."""
    return [re.sub(" (?=[\u0301\u20e3])", "\xa0", OUR_ESCAPES.sub("", line)).rstrip(" ") for line in lines]


def assert_nothing_but_text(svg):
    """It is made of the few elements that draw text, none of which can do or fetch anything."""
    for element in ElementTree.fromstring(svg).iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in ELEMENTS
        assert set(element.attrib) <= ATTRIBUTES
    assert b"url(" not in svg
    assert b"@import" not in svg


# ---------------------------------------------------------------- one frame


def test_every_sign_stands_in_its_cell():
    svg = picture([WIDE], "wide")
    assert lines_drawn(svg) == WIDE
    assert lines_drawn(picture([["\x1b[1m你\x1b[0m\x1b[91m好\x1b[0m."]], "")) == ["你好."]


@given(
    st.lists(st.lists(st.integers(0, len(TABLE) - 1), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(MINIMUM_WIDTH, 100),
)
@example([[0, 32, 32], [0, 0, 32]], 20)  # two halves of a flag, each in a look of its own
def test_tokens_of_every_kind(rows, width):
    rows = tuple(LayerRow(layer, tuple(ids), finished=False) for layer, ids in enumerate(rows, 1))
    lines = render_decoding(LayerDecoding("shared", len(rows), (1,), 3, rows, None), "p", PIECES, terminal_drawn(width))
    svg = picture([lines], "tokens")
    assert_nothing_but_text(svg)
    assert lines_drawn(svg) == plain(lines)


@pytest.mark.parametrize("render", [render_decoding, render_table])
def test_hostile_text_is_only_text(render):
    hostile = [*HOSTILE, "</text><script>document.title = 'owned'</script>", "]]></style>", "&#0;", "\ufffe"]
    decoding, terminal = made_up(5, 8, 3, len(hostile)), terminal_drawn(120)
    lines = render(decoding, hostile[-4], pieces_of(hostile), terminal)
    svg = picture([lines], f"--prompt {hostile[-4]}\x00\u202e")
    assert_nothing_but_text(svg)
    assert lines_drawn(svg) == plain(lines)
    (title,) = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")
    assert title.text == f"--prompt {shown(hostile[-4], Terminal())}\\x00\\u202e"


def test_a_long_title_is_cut():
    root = ElementTree.fromstring(picture([["short"]], "word " * 100))
    (drawn,) = (text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("id") == "title")
    assert drawn == "word wor…"


def test_without_colour_there_are_marks():
    assert terminal_drawn(80, "never").theme is PLAIN
    assert terminal_drawn(5).width == MINIMUM_WIDTH


def test_every_look_can_be_read():
    """At least 4.5 : 1, letters on what is behind them."""
    theme = terminal_drawn(80).theme
    for role in [field.name for field in fields(theme) if field.name not in ("reset", "marks", "piece")]:
        (sign,) = read_painted(theme.paint("a", role))
        ink, paper = _colours(sign.look)
        assert contrast(ink[1:], paper[1:]) >= 4.5, role


def test_colours_by_hand():
    looks = [read_painted(f"{escape}a")[0].look for escape in ("", "\x1b[38;5;153m", "\x1b[48;5;244m", "\x1b[7m")]
    assert list(map(_colours, looks)) == [
        ("#d4d4d4", "#1e1e1e"),
        ("#afd7ff", "#1e1e1e"),
        ("#d4d4d4", "#808080"),
        ("#1e1e1e", "#d4d4d4"),
    ]


# ---------------------------------------------------------------- frames


def grown(context="shared", most=50, width=60):
    """The stages of a made-up decoding, and its answer."""
    decoding, pieces, terminal = made_up(4, 9, 3, len(HOSTILE), context), pieces_of(HOSTILE), terminal_drawn(width)
    return [
        *render_stages(decoding, "p", pieces, terminal, most),
        render_decoding(decoding, "p", pieces, terminal),
    ]


@pytest.mark.parametrize("context", ["shared", "own"])
def test_each_frame_is_drawn_as_it_was_printed(context):
    frames = grown(context)
    svg = picture(frames, "moves")
    assert_nothing_but_text(svg)
    assert frames_in(svg) == len(frames) > 5
    for number, lines in enumerate(frames):
        assert lines_drawn(svg, number) == plain(lines)
    assert lines_drawn(svg) == plain(frames[-1])


def test_what_does_not_change_is_written_once():
    frames = [["same", "\x1b[91mone\x1b[0m"], ["same", "\x1b[91mone two\x1b[0m"], ["same", "\x1b[91mone two\x1b[0m 2"]]
    svg = picture(frames, "")
    assert [svg.count(f">{text}<".encode()) for text in ("same", "one", "two", "2")] == [1, 1, 1, 1]
    assert picture(frames, "") == svg


def test_what_goes_and_comes_again():
    frames = [["a"], ["b"], ["a"], ["b"], ["a"]]
    assert [lines_drawn(picture(frames, ""), number) for number in range(5)] == frames


def test_only_the_style_moves_and_only_where_motion_is_welcome():
    style = re.search(r"<style>\n(.*)</style>", picture(grown(), "").decode(), re.DOTALL)[1]
    still, moving = style.split("@media(prefers-reduced-motion:no-preference){")
    assert "animation" not in still
    assert ".gone{visibility:hidden}" in still
    assert "animation" in moving
    assert b"animation" not in picture(grown()[-1:], "")
    assert b"@media" not in picture(grown()[-1:], "")


def test_it_is_over_in_five_seconds():
    """What moves for longer must be able to be stopped: WCAG 2.2.2."""
    for count in (2, 10, 50):
        svg = picture([[str(number)] for number in range(count)], "").decode()
        ends = [
            sum(map(float, times)) for times in re.findall(r"animation:\w+ ([\d.]+)s(?: ([\d.]+)s)?", svg) if times[1]
        ]
        assert max(ends) <= 5


def test_stages_left_out():
    whole, some = grown(most=50)[:-1], grown(most=4)[:-1]
    assert len(whole) == 9
    assert some == [whole[2], whole[5], whole[8]]
    assert grown(most=1)[:-1] == [whole[8]]


def test_a_big_picture_has_fewer_frames():
    assert frames_before(["x" * 100]) == 50
    assert frames_before(["x" * 100] * 50) == 10
    assert frames_before(["x" * 1000] * 500) == 1
    assert frames_before([]) == 50


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    """A browser for both tests."""
    if find_browser() is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    opened = Browser(find_browser())
    yield opened
    opened.close()


def test_a_browser_draws_signs_in_their_cells_and_copies_lines(browser, tmp_path):
    """Whatever its fonts: to a tenth of a cell, an emoji to a quarter."""
    file = tmp_path / "wide.svg"
    file.write_bytes(picture([["\x1b[1mLayer 1:\x1b[0m   one,  \x1b[91mtwo\x1b[0m end", *WIDE]], "wide"))
    browser.open(file)
    spans = browser.ask(
        "[...document.querySelectorAll('tspan')].map(span => [span.textContent, +span.getAttribute('textLength'),"
        " Math.abs(span.getEndPositionOfChar(span.getNumberOfChars() - 1).x - span.getStartPositionOfChar(0).x)])"
    )
    assert len(spans) > 10
    for text, wanted, length in spans:
        assert abs(length - wanted) <= (3 if "👍" in text or "👩" in text else 1.2), text
    copied = browser.ask("getSelection().selectAllChildren(document.getElementById('lines')), `${getSelection()}`")
    assert copied.splitlines()[:2] == ["Layer 1:   one,  two end", WIDE[0]]
    assert browser.complaints == []


def test_a_browser_shows_each_frame_in_its_time(browser, tmp_path):
    frames = grown(width=80)
    file = tmp_path / "moves.svg"
    file.write_bytes(picture(frames, "moves"))
    browser.open(file)
    for number, lines in enumerate(frames):
        seen = browser.ask(
            "document.getAnimations().forEach(one => { one.pause(); one.currentTime = %f; });"
            "[...document.querySelectorAll('tspan')].filter(span => getComputedStyle(span).visibility == 'visible')"
            ".map(span => span.textContent).join('')" % (240 * number + 120)
        )
        assert sorted(seen.replace(" ", "")) == sorted("".join(plain(lines)).replace(" ", ""))
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    assert browser.ask("document.getAnimations().length") == 0
    assert browser.complaints == []
