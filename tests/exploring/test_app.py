"""The screen, headless, with Textual's own pilot."""

import asyncio
import re
import threading

import pytest

from boards import player_of
from layer_decoding.errors import LayerDecodingError
from layer_decoding.exploring.keys import key_of
from layer_decoding.exploring.player import play as play_script
from layer_decoding.exploring.tasks import Reply
from layer_decoding.models.loading import load_model
from layer_decoding.terminal.theme import COLOUR, MONOCHROME, Terminal

pytest.importorskip("textual")
from textual.events import Paste

from layer_decoding.exploring.app import ExplorerApp, Lines

PATIENCE = 60  # seconds until a screen that never comes is given up


@pytest.fixture
def app_of(tiny_loaded):
    def app_of(ready=None, theme=MONOCHROME, **options):
        return ExplorerApp(ready or (lambda _: player_of(tiny_loaded, **options)), Terminal(theme))

    return app_of


@pytest.fixture(scope="module")
def tiny_loaded(tiny_folder):
    return load_model(str(tiny_folder), device="cpu")


def shown(app):
    return [strip.text.rstrip() for strip in app.query_one(Lines).strips]


async def until(pilot, condition):
    """Let the app go on until something is so."""
    for _ in range(PATIENCE * 20):
        await pilot.pause()
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(shown(pilot.app))


def play_on(app, play, size=(80, 24)):
    """Run a coroutine `play(pilot)` on the app's screen once the board is there."""

    async def run():
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: app.board is not None and not app.is_busy)
            await play(pilot)

    asyncio.run(run())


async def press(pilot, *keys):
    await pilot.press(*keys)
    await until(pilot, lambda: not pilot.app.is_busy and not pilot.app.waiting)


def test_keys_reach_the_board_and_the_board_the_screen(app_of):
    app = app_of()

    async def play(pilot):
        await press(pilot, "space", "t", "x", "enter", "home", "up", "m")
        assert app.board.texts.branch.ids[1] == app.player.loaded.tokenizer.encode("x")[0]
        assert (app.board.layer, app.board.step) == (1, 1)
        lines = shown(app)
        assert any(line.startswith(">   1") and "%" in line for line in lines)
        assert any("Step 1, layer 1" in line for line in lines)
        await press(pilot, "question_mark")
        assert any(line.startswith("pageup, pagedown") for line in shown(app))
        await press(pilot, "escape", "q")
        assert not app.is_running or app._exit

    play_on(app, play)
    assert app.failure is None
    assert len(app.board.texts.branch.ids) == 2


def test_the_same_board_as_the_script_plays(app_of, tiny_loaded):
    keys = ["g", "home", "right", "2", "space", "left_square_bracket", "end", "k", "enter", "b"]
    app = app_of()

    async def play(pilot):
        await press(pilot, *keys)

    play_on(app, play)
    player = player_of(tiny_loaded)
    board = player.board()
    play_script(player, board, [key_of(key) for key in keys], lambda _: None)
    assert [branch.ids for branch in app.board.texts.branches] == [branch.ids for branch in board.texts.branches]
    assert (app.board.record, app.board.message) == (board.record, board.message)


def test_the_mouse(app_of):
    app = app_of()

    async def play(pilot):
        await press(pilot, "g")
        start, _ = app.frame.spans[6]
        await pilot.click(Lines, offset=(start + 1, app.frame.top))
        assert (app.board.layer, app.board.step) == (1, 6)
        await pilot.click(Lines, offset=(0, 0))
        assert (app.board.layer, app.board.step) == (1, 6)

    play_on(app, play)


def test_a_resize_at_any_moment(app_of):
    app = app_of()

    async def play(pilot):
        await press(pilot, "g")
        for width, height in [(60, 20), (200, 60), (30, 8), (1, 1), (80, 24)]:
            await pilot.resize_terminal(width, height)
            await until(pilot, lambda: app.query_one(Lines).size == (width, height))  # noqa: B023
            await pilot.pause()
            lines = shown(app)
            assert len(lines) <= height
            assert ("make it at" in " ".join(lines)) == (width == 30) or width == 1
        assert shown(app)[-1].endswith("q leave")

    play_on(app, play)


def test_the_screen_stands_while_the_model_loads_and_keys_wait(app_of, tiny_loaded):
    may_end = threading.Event()

    def slowly(tell):
        tell("Loading tiny ...")
        may_end.wait(PATIENCE)
        return player_of(tiny_loaded)

    app = app_of(slowly)

    async def run():
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: shown(app) == ["Loading tiny ..."])
            await pilot.press("space")
            await pilot.resize_terminal(60, 20)
            may_end.set()
            await until(pilot, lambda: app.board is not None and app.board.texts.branch.ids)

    asyncio.run(run())
    assert app.failure is None


def test_a_model_that_dies_while_loading(app_of):
    def dying(_):
        raise LayerDecodingError("The file is damaged; get it again.")

    app = app_of(dying)

    async def run():
        async with app.run_test() as pilot:
            await until(pilot, lambda: app.failure is not None)

    asyncio.run(run())
    assert str(app.failure) == "The file is damaged; get it again."
    assert app.board is None


def test_escape_stops_what_runs_and_forgets_the_keys_that_wait(app_of, monkeypatch):
    app, may_go_on, running = app_of(), threading.Event(), threading.Event()

    def endless(_task, _board, report, is_stopped):
        running.set()
        while not is_stopped():
            may_go_on.wait(0.01)
        report(Reply(message="Stopped."))

    async def play(pilot):
        monkeypatch.setattr(app.player, "_write", endless)
        await pilot.press("g", "up", "up")
        await until(pilot, running.is_set)
        await until(pilot, lambda: any("Escape stops it" in line for line in shown(app)))
        await pilot.resize_terminal(90, 30)  # nothing is frozen
        await pilot.press("escape")
        await until(pilot, lambda: not app.is_busy)
        assert app.board.message == "Stopped."
        assert app.board.row == 1  # the two keys are forgotten

    play_on(app, play)


def test_what_cannot_be_done_is_said_and_what_breaks_ends_it(app_of, monkeypatch):
    app = app_of(prompt="x" * 32)

    def broken(*_):
        raise ZeroDivisionError("oh")

    async def play(pilot):
        await press(pilot, "space")
        assert any("context of 32 tokens is full" in line for line in shown(app))
        monkeypatch.setattr(app.player, "_takeback", broken)
        await pilot.press("backspace")
        await until(pilot, lambda: app.failure is not None)

    play_on(app, play)
    assert isinstance(app.failure, ZeroDivisionError)


def test_ctrl_c_leaves_as_interrupted(app_of):
    app = app_of()

    async def play(pilot):
        await pilot.press("t", "a", "ctrl+c")
        await until(pilot, lambda: app.failure is not None)

    play_on(app, play)
    assert isinstance(app.failure, KeyboardInterrupt)


def test_copying_gives_the_terminal_the_command_and_shows_it(app_of):
    app = app_of()

    async def play(pilot):
        await press(pilot, "space", "c")
        assert app.clipboard == app.player.command(app.board)
        assert app.clipboard.startswith("python multi_layer_decoding_demo.py --model tiny")
        assert "multi_layer_decoding_demo.py" in " ".join(shown(app))

    play_on(app, play)


@pytest.mark.parametrize("theme, colours", [(COLOUR, True), (MONOCHROME, False)], ids=["colour", "none"])
def test_colours_are_the_terminals_own_sixteen(app_of, theme, colours):
    app = app_of(theme=theme)

    async def play(pilot):
        await press(pilot, "t", "x", "enter")
        styles = [segment.style for strip in app.query_one(Lines).strips for segment in strip if segment.style]
        found = {color for style in styles for color in (style.color, style.bgcolor) if color is not None}
        assert bool(found) == colours
        assert all(color.is_default or color.number < 16 for color in found)
        assert any(style.reverse for style in styles)

    play_on(app, play)


def test_pasting_into_a_line(app_of):
    app = app_of()

    async def play(pilot):
        await pilot.press("slash")
        app.post_message(Paste("Hi there\n"))
        await until(pilot, lambda: app.board.typed == "Hi there")
        await press(pilot, "enter")
        assert app.board.prompt == "Hi there"
        assert re.match("Hi there", shown(app)[0])

    play_on(app, play)
