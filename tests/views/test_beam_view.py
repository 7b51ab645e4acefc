"""The beam search's answer as text: aligned rows, honest notes, a tree whose lines lead where the parents are."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import width

from conftest import SOURCE
from layer_decoding.results.beam import (
    BeamSearch,
    BeamSettings,
    Hypothesis,
    LayerSearch,
    ScoredText,
    TraceBeam,
    TraceStep,
)
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import shorten
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Glyphs, Terminal
from layer_decoding.views.beam import compared_with_greedy, cost_of_rule, render_search
from layer_decoding.views.beam_columns import place_beams
from layer_decoding.views.beam_tree import column_name, render_trace
from row_texts import UNMARKED

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Words:
    """A tokenizer whose token n is a word."""

    WORDS = (" zero", " one", " two", "ing", "\n", " \x1b[31m", " 日本語", " extraordinarily", ".", "<|endoftext|>")
    all_special_ids = (9,)
    added_tokens_decoder = {}  # noqa: RUF012

    def convert_ids_to_tokens(self, tokens):
        return [self.WORDS[token] for token in tokens] if isinstance(tokens, list) else self.WORDS[tokens]

    def decode(self, tokens, clean_up_tokenization_spaces):  # noqa: ARG002
        return "".join(self.WORDS[token] for token in tokens)


PIECES = Pieces(Words())


def text(ids, nats=-1.0, finished=False):
    return ScoredText(tuple(ids), (nats,) * len(ids), finished)


def hypothesis(rank, ids, nats=-1.0):
    return Hypothesis(tuple(ids), (nats,) * len(ids), ids[-1] == 9, rank=rank, score=nats)


def search_of(*texts, **parts):
    beam_settings = parts.pop("settings", BeamSettings(4, 3, len(texts)))
    hypotheses = tuple(hypothesis(rank, ids) for rank, ids in enumerate(texts, 1))
    return BeamSearch(12, (1, 2), beam_settings, hypotheses, **parts)


UNWRAPPED = Terminal(width=None)


def rows_of(search, terminal=UNWRAPPED):
    return render_search(search, "once", PIECES, terminal)


# ---------------------------------------------------------------- rows


def test_a_row_has_rank_score_sum_length_and_text():
    lines = rows_of(search_of([0, 1, 2], [0, 2], greedy=text([1], -2.5)))
    assert lines[:7] == [
        "Prompt: once",
        "",
        "rank      score   log p  n  text",
        "1       -1.0000  -3.000  3  zero one two",
        "2       -1.0000  -2.000  2  zero two",
        "greedy  -2.5000  -2.500  1  one",
        "",
    ]


def test_an_insertion_colours_itself_alone():
    lines = rows_of(search_of([0, 1, 2, 3], [0, 6, 1, 2, 3], [0, 2, 3]))
    assert lines[4].endswith(" zero [日本語] one twoing")
    assert lines[5].endswith(" zero twoing")


def test_a_layers_best_is_compared_with_the_last_layers_and_the_others_with_it():
    block = LayerSearch(6, text([1, 2]), (hypothesis(1, [0, 2]), hypothesis(2, [0, 1])))
    search = search_of([1, 2], [1, 1])
    blocks = (block, LayerSearch(12, text([1, 2]), search.hypotheses))
    whole = BeamSearch(12, (1,), BeamSettings(2, 2, 2), search.hypotheses, layers=blocks)
    lines = rows_of(whole)
    at = lines.index("Layer 6")
    assert [line[27:] for line in lines[at + 1 : at + 4]] == [" [zero] two", " zero [one]", " [one] two"]
    assert lines[at + 5] == "Layer 12, the model"
    assert any("rank 1 is compared with layer 12's" in line for line in lines)


def test_a_narrow_screen_puts_texts_under_their_numbers():
    lines = rows_of(search_of([0, 1, 2, 7, 7, 7]), Terminal(width=30))
    assert lines[3] == "1     -1.0000  -6.000  6"
    assert lines[4].startswith("   zero one two")
    assert max(map(width, lines)) <= 30


@pytest.mark.parametrize(
    "best, greedy, sentence",
    [
        ([0, 1], text([0, 1]), "Rank 1 is the greedy text: beam search found nothing better."),
        ([0, 1], text([0, 2], -2.0), "Rank 1 is likelier than the greedy text: by 2.000 nats, 7.39 times as probable."),
        ([0], text([0, 2], -2.0), "3.000 nats, 20.09 times as probable, with 1 tokens against 2."),
        ([0, 1], text([0, 2], -0.5), "Rank 1 is less likely than the greedy text: by 1.000 nats."),
        ([0, 1], text([0, 2], -900.0), "1798.000 nats, e**1798 times as probable."),
    ],
)
def test_the_gain_over_greedy(best, greedy, sentence):
    assert compared_with_greedy("Rank 1", hypothesis(1, best), greedy).endswith(sentence)


def test_what_the_ngram_rule_costs():
    best = hypothesis(1, [0, 1])
    assert "costs nothing here: the row free, the best without the rule, is rank 1" in cost_of_rule(best, best, 2)
    assert "costs 1.000 nats: the row free" in cost_of_rule(best, hypothesis(1, [0, 2], -0.5), 2)
    assert "is less likely by 2.000 nats" in cost_of_rule(best, hypothesis(1, [0, 2], -2.0), 2)
    assert "That no 3 tokens in a row may come twice, those of the prompt included," in cost_of_rule(best, best, 3)
    assert "That no token may come twice, those of the prompt included," in cost_of_rule(best, best, 1)


def test_the_row_without_the_rule_is_there():
    search = search_of([0, 1], unrestricted=hypothesis(1, [0, 2]), settings=BeamSettings(2, 1, 1, 1.0, 2))
    assert any(line.startswith("free") and line.endswith(" zero [two]") for line in rows_of(search))
    with_greedy = replace(search, greedy=text([0, 2]))
    assert "The row free is the greedy text: beam search found nothing better." in rows_of(with_greedy)


def test_missing_texts_and_interruption_are_said():
    few = search_of([0, 1], settings=BeamSettings(2, 5, 4))
    assert "3 of the texts asked for were not found: there are no more." in rows_of(few)
    stopped = search_of([0, 1], settings=BeamSettings(2, 5, 4), interrupted=True)
    assert "The search was interrupted: these are the texts and beams it had." in rows_of(stopped)


def test_why_logarithms_are_summed_holds():
    import torch

    assert torch.full((1024,), 0.5).prod() == 0
    assert torch.full((1024,), 0.5).log().sum().item() == pytest.approx(-709.8, abs=0.02)


# ---------------------------------------------------------------- the tree


@st.composite
def traces(draw):
    """A search over ten tokens: any parents, any sums, some beams finished, and the texts it returns."""
    beams, steps = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    live, trace, finished = [()], [], []
    for number in range(1, steps + 1):
        tokens = st.integers(0, 9)
        pairs = st.tuples(st.integers(0, len(live) - 1), tokens)
        chosen = draw(st.lists(pairs, min_size=beams, max_size=2 * beams, unique=True))
        rows = []
        for position, (parent, token) in enumerate(chosen):
            state = "live" if position < beams else draw(st.sampled_from(["dropped", "finished"]))
            rows.append(TraceBeam((*live[parent], token), -1.5 * number - position, parent, state))
        trace.append(TraceStep(number, tuple(rows)))
        finished += [beam.ids for beam in rows if beam.state == "finished"]
        live = [beam.ids for beam in rows if beam.state == "live"]
    texts = draw(st.permutations([*live, *finished]))[:beams]
    settings_ = BeamSettings(draw(st.integers(steps, steps + 1)), beams, beams)
    return search_of(*texts, trace=tuple(trace), settings=settings_)


@given(traces())
@settings(deadline=None)
def test_lines_of_the_tree_lead_to_the_parents(search):
    """Follow the drawn lines upwards from every beam and see where they arrive."""
    steps, columns = search.trace, search.settings.num_beams
    places = place_beams(steps, columns)
    lines = render_trace(search, PIECES, Terminal(width=None))
    grid = [by_cells(line) for line in lines[2 : lines.index("")]]
    at = {int(line[:6]): row for row, line in enumerate(grid) if line[:6].strip()}
    for number, step in enumerate(steps, 1):
        assert len(set(places[number - 1].values())) == len(step.live)
        for beam in step.live:
            column = 6 + 16 * places[number - 1][beam.ids]
            assert grid[at[number]][column] in "●○"
            parent = places[number - 2][beam.ids[:-1]] if number > 1 else 0
            assert climb(grid, at[number] - 1, column) == (at[number - 1] if number > 1 else 0, 6 + 16 * parent)
            assert f"{beam.logprob_nats:.2f}" in grid[at[number] + 1][column + 1 : column + 16]


def by_cells(line):
    """A line with as many characters as it has cells, and some."""
    return "".join(character + " " * (width(character) - 1) for character in line).ljust(300)


def climb(grid, row, column):
    """Where a line ends that comes down to (row + 1, column): up, and sideways where it turns."""
    step = 0
    while True:
        character = grid[row][column]
        if step == 0:
            if character in "●○":
                return row, column
            if character in "╮╭┬":
                # a child's corner: its fork lies on the side where the line goes on to a ├, ┤ or ┼
                step = -1 if origin_is_left(grid[row], column) else 1
                column += step
                continue
            assert character in "│├┤┼", (row, column, character)
            row -= 1
        elif character in "├┤┼":
            step, row = 0, row - 1
        else:
            assert character in "─│╮╭┬"
            column += step


def origin_is_left(line, column):
    if line[column] in "╮╭":
        return line[column] == "╮"
    left = next((place for place in range(column - 1, -1, -1) if line[place] not in "─│┬"), None)
    return left is not None and line[left] in "├┼"


@given(traces(), st.sampled_from([20, 60, 80, 100, 140, None]))
@settings(deadline=None)
def test_colour_is_only_decoration_and_nothing_is_wider_than_the_screen(search, screen):
    plain = rows_of(search, Terminal(PLAIN, Glyphs(), screen))
    coloured = rows_of(search, Terminal(COLOUR, Glyphs(), screen))
    bare = [ESCAPE.sub("", line) for line in coloured]
    assert bare == rows_of(search, Terminal(UNMARKED, Glyphs(), screen))
    assert without_brackets(bare) == without_brackets(plain)
    assert not any("\x1b" in line for line in plain)
    assert all(ESCAPE.findall(line)[-1:] in ([], [COLOUR.reset]) for line in coloured)
    if screen is not None and screen >= 60:
        assert max(map(width, plain)) <= screen
    ascii_lines = rows_of(search, Terminal(PLAIN, ASCII, screen))
    assert all(line.replace("日本語", "").replace("…", "").isascii() for line in ascii_lines)


def without_brackets(lines):
    """All words of some lines, which each theme wraps by itself."""
    return re.sub(r"[\[\] ]", "", "".join(lines))


def two_steps(**parts):
    first = (("live", (0,), -1.0, 0), ("live", (1,), -2.0, 0), ("dropped", (2,), -3.0, 0))
    second = (("finished", (1, 9), -2.5, 1), ("live", (0, 2), -3.0, 0), ("live", (0, 3), -3.5, 0))
    trace = tuple(
        TraceStep(number, tuple(TraceBeam(ids, total, parent, state) for state, ids, total, parent in beams))
        for number, beams in enumerate((first, second), 1)
    )
    settings_ = BeamSettings(parts.pop("new", 2), 2, 2)
    return search_of([1, 9], [0, 2], trace=trace, settings=settings_)


def test_the_tree_by_hand():
    lines = render_trace(two_steps(), PIECES, Terminal(width=70))
    assert lines[:11] == [
        "The search, step by step",
        "step  a               b",
        "      ●",
        "      ├───────────────╮",
        "   1  ○ zero          ● one           dropped: a two -3.00",
        "      │-1.00           -2.00",
        "      ├───────────────╮",
        "   2  ○ two           ○ing            finished: b <|endoftext|> -2.50",
        "       -3.00           -3.50           rank 1",
        "       rank 2",
        "",
    ]
    assert "It ended here" not in " ".join(lines)
    assert "It ended here" in " ".join(render_trace(two_steps(new=5), PIECES, Terminal(width=60)))


def test_the_tree_in_ascii():
    lines = render_trace(two_steps(), PIECES, Terminal(glyphs=ASCII))
    assert lines[2:4] == ["      *", "      +---------------+"]
    assert lines[4] == "   1  o zero          * one           dropped: a two -3.00"
    assert all(line.isascii() for line in lines)


def test_a_screen_too_narrow_for_the_columns_gets_a_list():
    lines = render_trace(two_steps(), PIECES, Terminal(width=40))
    assert lines[1:4] == [
        "   1    1    -1.00  from   1  ○ zero",
        "        2    -2.00  from   1  ● one",
        "       dropped: 1 two -3.00",
    ]
    assert "A wider screen shows a tree." in " ".join(lines)


def test_small_helpers():
    assert [column_name(column) for column in (0, 25, 26, 53)] == ["a", "z", "a1", "b2"]
    assert shorten(" 日本語", 5, "…") == " 日…"
    assert shorten("word", 4, "…") == "word"


def test_rendering_imports_no_torch():
    code = "import sys, layer_decoding.views.beam, layer_decoding.files.documents; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=False).returncode == 0
