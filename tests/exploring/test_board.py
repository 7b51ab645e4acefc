"""What keys do to a board: the cursor, what is typed, what is asked for, and the record of it all."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boards import board_of, branch_of
from layer_decoding.exploring.board import Board
from layer_decoding.exploring.keys import COMMANDS, MOVES, NAMED
from layer_decoding.exploring.tasks import (
    Begin,
    Copy,
    Leave,
    OwnText,
    Reply,
    Save,
    Take,
    TakeBack,
    TakeText,
    Turn,
    Write,
    WriteOwn,
)
from layer_decoding.exploring.texts import Texts
from layer_decoding.results.measures import MEASURES


def _words(keys):
    return keys.split()


def pressed(board, keys):
    """The task of the last of some keys."""
    for key in keys.split():
        task = board.press(key)
    return task


def test_the_cursor_begins_on_the_last_layer():
    board = board_of((), layer_count=5)
    assert (board.layer, board.step) == (5, 1)


@pytest.mark.parametrize(
    "keys, place",
    [
        ("up", (11, 1)),
        ("k k l", (10, 2)),
        ("down", (12, 1)),
        ("left", (12, 1)),
        ("end", (12, 4)),
        ("end right", (12, 4)),
        ("end h home", (12, 1)),
        ("pageup", (4, 1)),
        ("pageup pageup", (1, 1)),
        ("pageup pageup j pagedown", (10, 1)),
    ],
)
def test_moves(keys, place):
    board = board_of((1, 2, 3))
    assert pressed(board, keys) is None
    assert (board.layer, board.step) == place


def test_what_keys_ask_for():
    board = board_of((1, 2), (1, 5))
    cell = board.texts.branch.steps[0].rows[-2]
    assert pressed(board, "up enter") == Take(1, cell.ids)
    assert pressed(board, "3") == Take(1, (cell.candidates[0][2].id,))
    assert pressed(board, "l o") == WriteOwn(11, 2)
    assert [pressed(board, key) for key in ("space", "g", "backspace", "[", "]", "c", "q")] == [
        *(Write(), Write(line=True), TakeBack(), Turn(-1), Turn(1), Copy(), Leave()),
    ]
    assert pressed(board, "t space a / x enter") == TakeText(2, " a/x")
    assert pressed(board, "t a b backspace enter") == TakeText(2, "a")
    assert pressed(board, "/ H i enter") == Begin("Hi")
    assert pressed(board, "s a . c s v enter") == Save(Path("a.csv"))


def test_a_line_that_is_typed_can_be_dropped_or_pasted_into():
    board = board_of(())
    assert pressed(board, "t q escape") is None
    assert pressed(board, "q") == Leave()
    assert pressed(board, "t enter") is None
    pressed(board, "/")
    board.paste("two\nlines")
    board.point(1, 1)  # the mouse waits
    assert (board.press("enter"), board.layer) == (Begin("two lines"), 12)
    board.paste("nowhere")
    assert board.typed == "two lines"


def test_measures_go_round():
    board, seen = board_of(()), []
    for _ in range(len(MEASURES) + 1):
        seen.append(board.measure)
        board.press("m")
    assert seen == [None, *MEASURES]
    assert board.measure is None


def test_help_is_closed_by_any_key():
    board = board_of(())
    board.press("?")
    assert board.helping
    assert board.press("q") is None
    assert not board.helping


def test_a_key_that_does_nothing_says_so():
    board = board_of(())
    assert board.press("Z") is None
    assert board.message == "'Z' does nothing; ? lists the keys."
    board.press("b")
    assert "one branch only" in board.message


def test_the_record_holds_what_leads_here_and_nothing_else():
    board = board_of((1, 2, 3))
    for key in _words("up ? q t a escape o c t space b enter m s x . c s v enter k"):
        board.press(key)
    board.point(0, 3)
    assert board.record == [*_words("up t space b enter m up right right"), *["up"] * 9]
    assert (board.layer, board.step) == (1, 3)


def test_a_writing_cut_short_is_recorded_as_far_as_it_went():
    board = board_of(())
    board.press("g")
    board.take(Reply(Texts((branch_of(4),)), 2))
    board.take(Reply(message="Stopped after 1 token.", written_instead=1))
    assert (board.record, board.step, board.message) == (["space"], 2, "Stopped after 1 token.")


def test_another_prompt_begins_another_record():
    board = board_of((1, 2))
    board.press("up")
    board.take(Reply(board.texts, 1, prompt="Twice"))
    assert (board.record, board.prompt) == ([], "Twice")


def test_a_layers_own_text_is_of_the_text_it_was_asked_for():
    board, own = board_of((1, 2)), OwnText(3, 1, (7,))
    board.take(Reply(own=own))
    board.press("up")
    assert board.own == own
    board.take(Reply(Texts((branch_of(1),)), 2))
    assert board.own is None


@given(st.lists(st.sampled_from(sorted(COMMANDS | NAMED | {"Z"})), max_size=60))
def test_the_cursor_stays_on_the_board(keys):
    board = board_of((1, 2, 3), (1, 9), layer_count=3)
    for key in keys:
        board.press(key)
        assert 0 <= board.row < 3
        assert 1 <= board.step <= board.texts.branch.open_step
        assert isinstance(board, Board)
        assert board.asked is None or key in {"t", "/", "s"} or board.typed is not None
    assert set(board.record) <= COMMANDS | {"Z"}
    assert MOVES.keys() <= COMMANDS


# ---------------------------------------------------------------- branches


def test_where_branches_part():
    texts = Texts(tuple(branch_of(*ids) for ids in [(1, 2, 3), (1, 9), (1, 9, 8), (4,)]))
    assert [texts.parts_from(number) for number in range(4)] == [None, (0, 2), (1, 3), (0, 1)]
    assert [Texts(texts.branches, number).compared() for number in range(4)] == [1, 0, 1, 0]
    assert Texts(texts.branches[:1]).compared() is None
    assert [texts.beginning_so(ids) for ids in [(), (1, 9), (4,), (1, 2, 3, 4)]] == [0, 1, 3, None]


def test_a_branch_that_becomes_another_is_not_there_twice():
    texts = Texts(tuple(branch_of(*ids) for ids in [(1, 2), (1, 2, 3), (5,)]), 1)
    changed = texts.changed(branch_of(1, 2))
    assert [branch.ids for branch in changed.branches] == [(1, 2), (5,)]
    assert changed.branch.ids == (1, 2)


def test_dropping_and_turning():
    texts = Texts(tuple(branch_of(token) for token in (1, 2, 3)), 2)
    assert texts.turned(1).branch.ids == (1,)
    assert texts.turned(-1).branch.ids == (2,)
    assert texts.dropped().branch.ids == (2,)
    assert texts.turned(1).dropped().branch.ids == (2,)


def test_sums_are_the_last_layers():
    """Its surprise at each token is 12 / 4 bits in the branches that are made up here."""
    assert branch_of(1, 2).sums_nats == pytest.approx((0, -3 * 0.6931472, -6 * 0.6931472))
