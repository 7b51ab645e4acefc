"""The screen: always as large as it is, the cursor always on it, nothing in it that a terminal obeys."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from boards import board_of
from layer_decoding.exploring.frame import LEAST_HEIGHT, LEAST_WIDTH, Frame, window
from layer_decoding.exploring.keys import COMMANDS
from layer_decoding.exploring.tasks import OwnText
from layer_decoding.terminal.theme import ASCII, COLOUR, MONOCHROME, Terminal
from pages import HOSTILE, pieces_of

ESCAPES = re.compile(r"\x1b\[[\d;]*m")
WORDS = [f" w{number}" for number in range(200)]
HOSTILE_WORDS = [HOSTILE[number % len(HOSTILE)] for number in range(200)]
SIZES = [(80, 24), (60, 24), (40, 12), (200, 60), (72, 13)]


def frame_of(words=WORDS, theme=MONOCHROME, **options):
    return Frame(pieces_of(words), Terminal(theme, **options))


def shown_by(frame, board, width=80, height=24):
    lines = frame.lines(board, width, height)
    plain = [ESCAPES.sub("", line) for line in lines]
    assert len(lines) <= height
    assert all(0 <= wcswidth(line) <= width for line in plain), max(plain, key=len)
    return plain


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(1, 40),
    st.integers(1, 80),
)
def test_the_window_is_full_and_scrolls_no_further_than_needed(widths, first, cursor, room):
    last, cursor = len(widths), min(cursor, len(widths))

    def width(step):
        return widths[step - 1]

    steps = window(width, first, cursor, last, room)
    used = sum(width(step) for step in steps)
    assert cursor in steps
    assert used <= room or list(steps) == [cursor]
    assert steps.stop > last or used + width(steps.stop) > room
    if steps.start < min(first, cursor):  # only what would have stayed empty is filled from the left
        assert steps.stop > last or used + width(steps.stop) > room
    if first <= cursor and sum(widths[first - 1 : cursor]) <= room:
        assert steps.start <= first


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("words", [WORDS, HOSTILE_WORDS], ids=["words", "hostile"])
@pytest.mark.parametrize("theme", [MONOCHROME, COLOUR], ids=["marks", "colour"])
def test_it_fits_with_the_cursor_on_it(width, height, words, theme):
    board = board_of(range(40), range(100, 105), seed=3)
    frame = frame_of(words, theme)
    for key in ["end", "up", "m", "pageup", "home", "?", "q", "b", "b", "m", "]"]:
        board.press(key)
        plain = shown_by(frame, board, width, height)
        assert plain[-1].endswith("any key goes back" if board.helping else "? keys  q leave")
        if not board.comparing and not board.helping:
            assert any(re.match(rf"> *{board.layer} ", line) for line in plain), plain
            assert str(board.step) in next(line for line in plain if line.startswith("Layer")).split()
            assert any(
                line.startswith(f"Step {board.step}, layer {board.layer}") or f" Step {board.step}, layer" in line
                for line in plain
            )


@given(
    st.lists(st.sampled_from(sorted(COMMANDS - {"q"})), max_size=25),
    st.integers(1, 130),
    st.integers(1, 50),
    st.booleans(),
)
def test_it_fits_whatever_was_pressed(keys, width, height, is_ascii):
    board = board_of(range(30), (0, 1, 50), seed=1)
    options = {"glyphs": ASCII, "encoding": "ascii"} if is_ascii else {}
    frame = frame_of(HOSTILE_WORDS, **options)
    for key in keys:
        board.press(key)
        lines = shown_by(frame, board, width, height)
        assert not is_ascii or "".join(lines).isascii()


@pytest.mark.parametrize("width, height", [(LEAST_WIDTH - 1, 24), (80, LEAST_HEIGHT - 1)])
def test_too_small_a_screen_says_how_large_it_must_be(width, height):
    said = " ".join("".join(shown_by(frame_of(), board_of(()), width, height)).split())
    assert said == f"The screen has {width} × {height} cells; make it at least {LEAST_WIDTH} × {LEAST_HEIGHT}."


def test_a_board_of_80_by_24_holds_twelve_layers_and_the_cell():
    plain = shown_by(frame_of(), board_of((1, 2, 3)))
    assert [line.split()[0] for line in plain if re.match(r"[> ] *\d+ ", line)] == [*map(str, range(1, 12)), ">"]
    assert sum(bool(re.search(r"  ?\d+  w\d+.* +[\d.<>]+%$", line)) for line in plain) == 10
    assert any("settles at" in line for line in plain)


def test_the_cursor_is_reversed_and_the_text_differs_where_it_is_not_the_models():
    board = board_of((1,))
    lines = frame_of(theme=COLOUR).lines(board, 80, 24)
    token = f"w{board.cell.ids[0]}"
    assert any(re.search(rf"\x1b\[7m[^\x1b]*{token}", line) for line in lines)
    board.press("end")
    assert f"{COLOUR.differs}w1" in frame_of(theme=COLOUR).lines(board, 80, 24)[0]
    assert "[w1]" in frame_of().lines(board, 80, 24)[0]


def test_the_mouse_finds_what_is_drawn():
    board, frame = board_of(range(30)), frame_of()
    board.press("end")
    plain = shown_by(frame, board)
    for step, (start, _) in frame.spans.items():
        assert frame.cell_at(start, frame.top + 4, board) == (4, step)
    assert frame.cell_at(0, frame.top, board) is None
    assert frame.cell_at(10, frame.top - 1, board) is None
    assert frame.cell_at(10, frame.top + 12, board) is None
    cell = board.texts.branch.steps[30].rows[4]
    start, stop = frame.spans[31]
    assert f"w{cell.ids[0]}" in plain[frame.top + 4][start:stop]


def test_branches_and_own_texts_stand_under_the_board():
    board = board_of((1, 2, 3), (1, 9))
    board.own = OwnText(3, 2, (5, 6))
    plain = shown_by(frame_of(), board)
    assert "> 1    -6.24 nats, the first:  w1 w2 w3" in plain
    assert "  2    -4.16 nats, parts from 1 at step 2:  w9" in plain
    assert "Layer 3's own text from step 2: w5 w6" in plain


def test_two_branches_side_by_side():
    board = board_of((1, 2, 3), (1, 9, 3))
    board.press("b")
    plain = shown_by(frame_of(), board)
    assert any(re.match(r" w1 \[w2\] w3 +  w1 \[w9\] w3$", line) for line in plain), plain


def test_what_is_typed_stands_at_the_bottom():
    board = board_of(())
    for key in ["/", "a", "b"]:
        board.press(key)
    assert shown_by(frame_of(), board)[-2] == "Prompt: ab_"
