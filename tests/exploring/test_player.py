"""Tasks performed: whatever keys led to a board, it shows what a fresh reading of its texts would."""

import json
import math
import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boards import player_of
from conftest import SOURCE
from fitted import some_lens
from layer_decoding.decoding.text.along import read_layers
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.exploring.player import play
from layer_decoding.exploring.tasks import Save, Write, WriteOwn
from layer_decoding.models.loading import load_model
from layer_decoding.results.greedy import joined

PROMPT = "Ab "


@pytest.fixture(scope="module")
def tiny_loaded(tiny_folder):
    return load_model(str(tiny_folder), device="cpu")


def played(loaded, keys, **options):
    """The player, the board after some keys, and what was told."""
    player, told = player_of(loaded, **options), []
    board = player.board()
    play(player, board, keys.split() if isinstance(keys, str) else keys, told.append)
    return player, board, told


def assert_read_afresh(player, board, tolerance=3e-6):
    """Every branch is the text it says, measured as `read_layers` does it: tokens equal, probabilities near."""
    prompt = player.explorer.prompt
    for branch in board.texts.branches:
        own = branch.steps[-1].final_row.ids[0]
        ids = [*prompt, *branch.ids, own]
        ours = joined(branch.steps, prompt, len(branch.steps))
        fresh = read_layers(player.explorer.model, ids, range(len(prompt), len(ids)), candidates=10)
        assert ours.text_ids == fresh.text_ids == (*branch.ids, own)
        assert ours.settles_at == fresh.settles_at
        for mine, theirs in zip(ours.rows, fresh.rows, strict=True):
            assert (mine.ids, mine.final_token_rank) == (theirs.ids, theirs.final_token_rank)
            for step, other in zip(mine.candidates, theirs.candidates, strict=True):
                assert [c.id for c in step] == [c.id for c in other]
                assert [c.probability for c in step] == pytest.approx([c.probability for c in other], abs=tolerance)
            for field in ("entropy_bits", "kl_to_final_bits", "surprise_bits"):
                assert getattr(mine, field) == pytest.approx(getattr(theirs, field), abs=1e-4)
        surprise = fresh.final_row.surprise_bits[: len(branch.ids)]
        assert branch.sums_nats[-1] == pytest.approx(-math.log(2) * sum(surprise), abs=1e-3)


KEYS = ["space", "space", "enter", "2", "9", "backspace", "[", "]", "x", "g", "m", "b", "o"]
MOVES = ["left", "right", "up", "down", "home", "end", "pageup"]
TYPED = [["t", "x", "enter"], ["t", "space", "é", "enter"], ["/", "H", "i", "enter"], ["t", "q", "escape"]]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(KEYS).map(lambda key: [key])
        | st.sampled_from(MOVES).map(lambda key: [key])
        | st.sampled_from(TYPED),
        max_size=18,
    )
)
def test_any_keys_lead_to_what_a_fresh_reading_shows(tiny_loaded, keys):
    player, board, _ = played(tiny_loaded, [key for typed in keys for key in typed])
    assert_read_afresh(player, board)
    texts = [branch.ids for branch in board.texts.branches]
    assert len(set(texts)) == len(texts)
    assert len(player.explorer.caches) <= len(texts)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*KEYS, *MOVES]), max_size=14))
def test_the_record_leads_to_the_same_board(tiny_loaded, keys):
    """So does the command that is copied, which plays it."""
    _, board, _ = played(tiny_loaded, keys)
    _, again, _ = played(tiny_loaded, board.record)
    assert [branch.ids for branch in again.texts.branches] == [branch.ids for branch in board.texts.branches]
    assert (again.row, again.step, again.view, again.comparing, again.texts.number) == (
        *(board.row, board.step, board.view, board.comparing, board.texts.number),
    )


def test_a_day_on_the_bundled_model(mini):
    """Written, a word of another layer taken, gone back, another prompt: what a reader sees at each place."""
    player, board, told = played(mini, "space space up enter", prompt="A long long time ago,", tokens=8)
    *first, taken = board.texts.branch.ids
    assert first == [step.final_row.ids[0] for step in board.texts.branch.steps[:2]]
    assert taken == board.texts.branch.steps[2].rows[10].ids[0]
    play(player, board, "g home right 2".split(), told.append)  # noqa: SIM905
    assert told == ["Branch 2 parts at step 2."]
    assert len(board.texts.branch.ids) == 2
    # A cached step of twelve blocks rounds otherwise than one pass over the text, as `decode_layers` does.
    assert_read_afresh(player, board, 5e-6)


def test_taking_what_is_there_already(tiny_loaded):
    player, board, told = played(tiny_loaded, "t a enter t b enter t c enter home t x enter home")
    first, second = board.texts.branches
    assert (player.pieces.text(first.ids), player.pieces.text(second.ids)) == ("abc", "x")
    assert told == ["Branch 2 parts at step 1."]
    play(player, board, ["t", "x", "enter"], told.append)
    play(player, board, ["home", "t", "a", "b", "enter"], told.append)
    assert told[1:] == ["The text goes on so already.", "Branch 1 goes on so."]
    assert (board.texts.number, board.step, len(board.texts.branches)) == (0, 3, 2)


def test_what_cannot_be_done_is_told_and_changes_nothing(tiny_loaded):
    _, board, told = played(tiny_loaded, "backspace x [ n 9 g g s n o . t x t enter")
    assert told[:4] == [
        "Nothing is written yet.",
        "This is the only branch; backspace takes its tokens back.",
        "There is one branch only; take another token to begin one.",
        "There is no other lens than the plain one.",
    ]
    assert told[-2] == "The line has its 6 tokens; space writes one more."
    assert told[-1].startswith("Cannot tell from its name what to write to 'no.txt'")
    assert len(board.texts.branch.ids) == 6


def test_the_context_fills_up(tiny_loaded):
    player, board, told = played(tiny_loaded, ["g", "space"], prompt="x" * 28, tokens=20)
    assert len(board.texts.branch.ids) == 4
    sentence = (
        "The model's context of 32 tokens is full, 28 of them the prompt's; take some back, or begin another prompt."
    )
    assert told == [sentence] * 2
    with pytest.raises(UsageError, match="33 tokens"):
        player_of(tiny_loaded, prompt="x" * 33)
    play(player, board, [*"/", *"y" * 40, "enter"], told.append)
    assert told[-1].startswith("The prompt has 40 tokens")
    assert board.prompt == "x" * 28
    _, board, told = played(tiny_loaded, "space", prompt="x" * 32)
    assert "is full" in told[0]


def test_a_text_that_has_ended(tiny_loaded):
    """End-of-text can be typed; the model then writes no further, and the row says that it has ended."""
    player, board, told = played(tiny_loaded, ["t", *"<|endoftext|>", "enter", "g"])
    assert told == ["The text has ended."]
    assert player.decoding(board.texts.branch).text_ids == (256,)


def test_a_writing_is_stopped_between_two_tokens(tiny_loaded):
    player = player_of(tiny_loaded)
    board, replies = player.board(), []
    board.press("g")
    player.perform(Write(line=True), board, replies.append, lambda: len(replies) == 3)
    assert [len(reply.texts.branch.ids) for reply in replies[:3]] == [1, 2, 3]
    assert (replies[3].message, replies[3].written_instead) == ("Stopped after 3 tokens.", 3)
    own = []
    player.perform(WriteOwn(1, 1), board, own.append, lambda: len(own) == 2)
    assert own[-1].message == "Stopped."
    assert own[-1].own is None


def test_files_are_the_greedy_scripts(tiny_loaded, tmp_path):
    player, board, _ = played(tiny_loaded, "t a enter t b enter")
    for suffix in (".html", ".csv", ".json"):
        player.perform(Save(tmp_path / f"board{suffix}"), board, board.take)
        assert board.message == f"Saved {tmp_path / 'board'}{suffix}."
    document = json.loads((tmp_path / "board.json").read_text())
    assert (document["schema"], document["text_ids"]) == ("layer-decoding/greedy/1", list(board.texts.branch.ids))
    assert document["prompt"]["text"] == PROMPT
    assert len(document["rows"][0]["candidates"][0]) == 5
    assert (tmp_path / "board.csv").read_text().startswith("layer,step,id")
    with pytest.raises(LayerDecodingError, match="Nothing is written yet"):
        player.perform(Save(tmp_path / "none.json"), player.board(), board.take)


def test_another_lens(tiny_loaded):
    turned = some_lens(tiny_loaded.model)
    player, board, told = played(tiny_loaded, "g n", lenses={"plain": None, "turned": turned})
    assert (told, board.lens) == (["Read by the turned lens."], "turned")
    lower = board.texts.branch.steps[0].rows[0].ids
    play(player, board, ["space", "n"], told.append)
    assert (board.lens, board.texts.branch.steps[0].rows[0].ids != lower) == ("plain", True)
    assert_read_afresh(player, board)


@pytest.mark.parametrize(
    "keys, prompt, words",
    [
        ("g m", PROMPT, ["--max-new-tokens", "6", "--view", "table", "--measure", "probability", PROMPT]),
        ("space", "-x", ["--max-new-tokens", "1", "--view", "table", "--", "-x"]),
        ("t space q enter", PROMPT, ["--script", "t space q enter", PROMPT]),
        ("", PROMPT, ["--script", "", PROMPT]),
    ],
)
def test_the_command_that_prints_it(tiny_loaded, keys, prompt, words):
    _, _, told = played(tiny_loaded, f"{keys} c", prompt=prompt)
    script = "multi_layer_explore_demo.py" if "--script" in words else "multi_layer_decoding_demo.py"
    assert shlex.split(told[-1]) == ["python", script, "--model", "tiny", *words]
    assert (SOURCE / script).is_file()


def test_its_command_is_what_is_typed_here(tiny_loaded):
    player, board, _ = played(tiny_loaded, "space")
    player.as_called = {"python multi_layer_decoding_demo.py": "multi-layer-decoding"}.get
    assert player.command(board).startswith("multi-layer-decoding --model tiny --max-new-tokens 1 ")
