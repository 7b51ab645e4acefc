"""The views that look closer (table, steps, track): goldens, colour against marks, widths, numbers."""

import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth

import goldens
import reference
from conftest import random_gpt2
from layer_decoding import UsageError, decode_layers
from layer_decoding.decoding.text.along import read_layers, track_step
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import BY_OPTION, MEASURES, Shades, percent
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Glyphs, Terminal
from layer_decoding.views.rows import render_decoding
from layer_decoding.views.steps import render_steps
from layer_decoding.views.table import level_by, render_table, shade_notes
from layer_decoding.views.track import axis, rank_bar, render_track, tracked_at
from measured_decodings import PIECES, measured

OUR_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
UNMARKED = replace(PLAIN, marks=("", ""))
PROMPT = [5, 17, 42, 8]


def every_view(decoding, terminal, prompt="A [long] time\n"):
    """Each view of a decoding as lines, by name."""
    args = (prompt, PIECES, terminal)
    measures = [None, *(measure for measure in MEASURES if measure.is_in(decoding))]
    views = {f"table {measure and measure.option}": render_table(decoding, *args, measure) for measure in measures}
    views["steps"] = render_steps(decoding, *args)
    views["track"] = render_track(tracked_at(decoding, 1, (0, 6)), *args)
    return views


# ---------------------------------------------------------------- goldens, colour, widths


@pytest.mark.parametrize("view", goldens.VIEWS)
@pytest.mark.parametrize("name", goldens.MEASURED)
def test_golden(name, view):
    """A deliberate change: python tests/tools/make_goldens.py, then read the difference."""
    assert goldens.looked_at_closely(name, view) == goldens.golden(name, view).read_bytes().decode()


@settings(max_examples=60)
@given(measured() | measured(given_text=True), st.none() | st.integers(40, 200), st.sampled_from([Glyphs(), ASCII]))
def test_colour_without_escapes_is_plain_without_marks(decoding, width, glyphs):
    """The bars beside the shades are there in colour too: the same words, at the same places."""
    coloured, unmarked, plain = (
        every_view(decoding, Terminal(theme, glyphs, width)) for theme in (COLOUR, UNMARKED, PLAIN)
    )
    for name in plain:
        bare = [OUR_ESCAPES.sub("", line).rstrip(" ") for line in coloured[name]]
        assert bare == [line.rstrip(" ") for line in unmarked[name]]
        if name.startswith("table"):
            assert bare == [line.rstrip(" ") for line in plain[name]]
        for line in coloured[name]:
            opened = OUR_ESCAPES.findall(line)
            assert opened == [] or opened[-1] == COLOUR.reset
        for line in [*plain[name], *bare] if width else []:
            assert wcswidth(line) <= width, name


@settings(max_examples=40)
@given(measured(), st.integers(1, 40))
def test_a_width_is_kept_or_refused_with_the_one_that_does(decoding, width):
    """From one cell on: lines that fit, or a sentence with the least width, which is indeed enough."""
    args = ("p", PIECES)
    for render in (
        lambda cells: render_table(decoding, *args, Terminal(width=cells)),
        lambda cells: render_steps(decoding, *args, Terminal(width=cells)),
        lambda cells: render_track(tracked_at(decoding, 1, ()), *args, Terminal(width=cells)),
    ):
        try:
            lines = render(width)
        except UsageError as error:
            needed, given_cells = map(int, re.findall(r"(\d+) cells.*width is (\d+)", str(error))[0])
            assert given_cells == width < needed
            lines, allowed = render(needed), needed
        else:
            allowed = width
        table = [line for line in lines if not re.match("Prompt|Then", line)]
        assert max(map(wcswidth, table[1 : table.index("", 1)])) <= allowed


@settings(max_examples=40)
@given(measured())
def test_piped_output_is_a_single_panel(decoding):
    lines = render_table(decoding, "two\nlines", PIECES, Terminal())
    assert lines[0] == "Prompt: two↵lines"
    assert [line[:5].strip() for line in lines[2 : 3 + len(decoding.rows)]] == [
        "Layer",
        *(str(row.layer) for row in decoding.rows),
    ]
    assert lines[3 + len(decoding.rows)] == ""


def test_what_a_stream_cannot_encode_is_measured_as_it_will_be_written():
    decoding, prompt, pieces = goldens.stored("wide")
    terminal = Terminal(PLAIN, ASCII, 60, "ascii")
    look = tracked_at(decoding, 4, decoding.final_row.ids[:3])
    for lines in (
        render_table(decoding, prompt, pieces, terminal),
        render_steps(decoding, prompt, pieces, terminal),
        render_track(look, prompt, pieces, terminal),
    ):
        assert all(line.isascii() and len(line) <= 60 for line in lines)


# ---------------------------------------------------------------- the table


def numbered_pieces():
    """Tokens without spaces: <0>, <1>, …"""
    return goldens.StoredPieces([f"<{number}>".encode() for number in range(97)])


def cells_in(line):
    """The cells of an unwrapped table's row whose texts hold no spaces."""
    return line.translate({ord(mark): " " for mark in Glyphs().chances}).split()[1:]


def test_table_by_hand():
    pieces = goldens.StoredPieces([b" and", b" the", b"\n", b"\xe4"])
    low, high = (
        tuple(map(math.log, probabilities)) for probabilities in ((0.0999, 0.1001, 0.3), (0.5001, 0.7499, 0.7501))
    )
    rows = (
        LayerRow(1, (0, 2, 3), finished=False, logprob_nats=low),
        LayerRow(12, (0, 1, 2), finished=False, logprob_nats=high),
    )
    decoding = LayerDecoding("shared", 12, (1,), 3, rows, settles_at=(1, 9, 12))
    assert render_table(decoding, "Once", pieces, Terminal()) == [
        "Prompt: Once",
        "",
        "Layer  1      2      3",
        "    1   and* ▂↵     ▄\\xE4",
        "   12 ▆ and* ▆ the* █↵*",
        "",
        "A cell is its layer's likeliest token at that step of layer 12's text; * where it is layer 12's.",
        "Shaded from 10% on by the likeliest token's probability: ▂10-25%  ▄25-50%  ▆50-75%  █75-100%",
        "Settles at layer 1 ×1, 9 ×1, 12 ×1 (the first from which a token no longer changes).",
    ]


@pytest.mark.parametrize("seed", range(2))
def test_the_tables_numbers_are_plain_arithmetic(seed):
    """Every cell against float64 on transformers' own hidden states."""
    model, steps = random_gpt2(seed), 4
    decoding = decode_layers(model, PROMPT, steps, layers=range(5))
    shown = {
        measure: [
            cells_in(line)
            for line in render_table(decoding, "p", numbered_pieces(), Terminal(), measure)
            if re.match(r" {4}\d ", line)
        ]
        for measure in (None, *MEASURES)
    }
    for step, final in enumerate(decoding.final_row.ids):
        logits = reference.lens_logits(model, [*PROMPT, *decoding.final_row.ids[:step]])
        for layer, row in enumerate(logits):
            cells = {measure: rows[layer][step] for measure, rows in shown.items()}
            top = int(row.argmax())
            assert {cell.endswith("*") for cell in cells.values()} == {top == final}
            said = {measure: cell.rstrip("*") for measure, cell in cells.items()}
            assert said[None] == f"<{top}>"
            assert said[BY_OPTION["probability"]] == percent(float(reference.log_softmax64(row).exp().max()))
            assert float(said[BY_OPTION["entropy"]]) == pytest.approx(float(reference.entropy_bits64(row)), abs=0.0051)
            divergence = float(reference.kl_bits64(logits[-1], row))
            assert float(said[BY_OPTION["kl"]]) == pytest.approx(divergence, abs=0.051 if divergence > 9.9 else 0.0051)
            assert said[BY_OPTION["rank"]] == str(reference.rank(row, final))
            surprise = -float(reference.log_softmax64(row)[final]) / math.log(2)
            assert float(said[BY_OPTION["surprise"]]) == pytest.approx(
                surprise, abs=0.051 if surprise > 9.9 else 0.0051
            )


def test_panels_hold_every_step_once_and_are_fewer_where_there_is_room():
    decoding, prompt, pieces = goldens.stored("measured")
    counts = []
    for cells in range(20, 120):
        lines = render_table(decoding, prompt, pieces, Terminal(width=cells))
        heads = [line for line in lines if line.startswith("Layer")]
        assert [int(number) for head in heads for number in re.findall(r"\d+", head)] == list(range(1, 11))
        counts.append(len(heads))
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (6, 1)


def test_a_star_in_own_context_is_a_token_that_both_texts_have():
    """The alignment of the rows: an insertion moves what follows, which still is the last layer's."""
    rows = (
        LayerRow(1, (7, 1, 2), finished=False, logprob_nats=(-1.0,) * 3),
        LayerRow(2, (1, 2), finished=True, logprob_nats=(-1.0,) * 2),
    )
    lines = render_table(LayerDecoding("own", 2, (1,), 3, rows, None), "p", numbered_pieces(), Terminal())
    assert [cells_in(line) for line in lines[3:5]] == [["<7>", "<1>*", "<2>*"], ["<1>*", "<2>*"]]
    assert not any("Settles" in line for line in lines)


@pytest.mark.parametrize("measure", [measure for measure in MEASURES if measure.needs_shared_text])
def test_own_context_has_no_measure_against_the_last_layer(measure):
    rows = (LayerRow(1, (1,), finished=False, logprob_nats=(-1.0,)),)
    with pytest.raises(UsageError, match="does not read the other layers' texts"):
        render_table(LayerDecoding("own", 1, (1,), 3, rows, None), "p", PIECES, Terminal(), measure)


# ---------------------------------------------------------------- the steps


@pytest.mark.parametrize("layer", [2, 4])
def test_steps_against_plain_arithmetic(layer):
    """Candidates, percentages, the one chosen and its rank; the sum over the text, in nats."""
    model = random_gpt2(3)
    decoding = decode_layers(model, PROMPT, 5)
    lines = render_steps(decoding, "p:", numbered_pieces(), Terminal(), [layer])
    final, total = decoding.final_row.ids, 0.0
    for step, line in enumerate(lines[3:8]):
        logits = reference.lens_logits(model, [*PROMPT, *final[:step]])
        probabilities = reference.log_softmax64(logits[layer]).exp()
        total += float(reference.log_softmax64(logits[4])[final[step]])
        order = sorted(range(97), key=lambda token: (-float(logits[layer][token]), token))[:5]
        expected = [str(step + 1), "p:" + "".join(f"<{token}>" for token in final[:step])]
        for token in order:
            expected += [f"<{token}>" + "*" * (token == final[step]), percent(float(probabilities[token]))]
        rank = [str(reference.rank(logits[layer], final[step]))] if layer < 4 else []
        assert line.split() == [*expected, *rank]
    assert ("rank" in lines[2]) == (layer < 4)
    (said,) = re.findall(r"5 tokens it wrote a log-probability of (\S+) nats in all: perplexity (\S+)\.$", lines[-1])
    assert float(said[0]) == pytest.approx(total, abs=6e-4)
    assert float(said[1]) == pytest.approx(math.exp(-total / 5), abs=6e-3)


def test_steps_of_own_texts():
    """Each row's own text so far, its own choice marked, its own sum."""
    decoding = decode_layers(random_gpt2(3), PROMPT, 4, context="own", layers=[1])
    lines = render_steps(decoding, "p:", numbered_pieces(), Terminal())
    for row, start in zip(decoding.rows, (3, 9), strict=True):
        assert lines[start - 1].startswith(f"Layer {row.layer}")
        for step, line in enumerate(lines[start : start + 4]):
            assert line.split()[1:3] == [
                "p:" + "".join(f"<{token}>" for token in row.ids[:step]),
                f"<{row.ids[step]}>*",
            ]
    assert [f"{sum(row.logprob_nats):.3f}" in line for row, line in zip(decoding.rows, lines[-2:], strict=True)]
    assert sum("nats" in line for line in lines) == 2


# ---------------------------------------------------------------- the track


def test_track_against_plain_arithmetic():
    """The numbers beside the bars, and the bars, of every token on top at any layer."""
    model, step = random_gpt2(1), 3
    decoding = decode_layers(model, PROMPT, step, measures=False)
    text = [*PROMPT, *decoding.final_row.ids[: step - 1]]
    logits = reference.lens_logits(model, text)[1:]
    tops = decoding.leaders(step)
    assert set(tops) == set(logits.argmax(-1).tolist())
    assert len(tops) > 1
    look = tracked_at(decode_layers(model, text, 1, track=tops), 1, decoding.final_row.ids[: step - 1])
    lines = render_track(look, "p", numbered_pieces(), Terminal())
    probabilities = reference.log_softmax64(logits).exp()[:, tops]
    for number, token in enumerate(tops):
        chances = probabilities[:, number].tolist()
        ranks = [reference.rank(row, token) for row in logits]
        star = "*" * (token == decoding.final_row.ids[step - 1])
        best = f"{percent(max(chances))} at {1 + chances.index(max(chances))}"
        bars = "".join(Glyphs().bars[min(7, int(8 * p / float(probabilities.max())))] for p in chances)
        assert lines[4 + 2 * number].split() == [f"<{token}>{star}", "p", bars, *best.split(), percent(chances[-1])]
        bars = "".join(rank_bar(rank, Glyphs()) for rank in ranks)
        best = f"{min(ranks)} at {1 + ranks.index(min(ranks))}"
        assert lines[5 + 2 * number].split() == ["rank", bars, *best.split(), str(ranks[-1])]


def test_a_step_of_a_longer_decoding_is_the_same_look():
    model = random_gpt2(1)
    decoding = decode_layers(model, PROMPT, 4, track=[3, 5])
    again = decode_layers(model, [*PROMPT, *decoding.final_row.ids[:2]], 1, track=[3, 5])
    look, other = (tracked_at(tracked, step, (1, 2)) for tracked, step in ((decoding, 3), (again, 1)))
    assert (look.ranks, look.text_id, look.ids) == (other.ranks, other.text_id, other.ids)
    assert torch.allclose(torch.tensor(look.probabilities), torch.tensor(other.probabilities), atol=1e-6)


def test_bars_by_hand():
    ranks = (1, 2, 3, 4, 10, 11, 31, 32, 100, 101, 1000, 1001, 50257)
    assert "".join(rank_bar(rank, Glyphs()) for rank in ranks) == "█▇▇▆▆▅▅▄▄▃▂▁▁"
    assert "".join(rank_bar(rank, ASCII) for rank in ranks) == "#**++==--:.__"
    assert (axis([7]), axis([1, 12]), axis(range(1, 13))) == ("7", "1-12", "1         12")


# ---------------------------------------------------------------- a text that the last layer would not have written


def read_along(model):
    """A random text of four tokens after a prompt, read by every layer."""
    ids = [*PROMPT, 50, 3, 77, 12]
    return read_layers(model, ids, range(len(PROMPT), len(ids)))


def test_every_view_names_the_text_that_it_goes_along():
    decoding = read_along(random_gpt2(3))
    rows = render_decoding(decoding, "p", numbered_pieces(), Terminal())
    last, text = (line for line in rows if line.startswith(("Layer 4:", "Text:")))
    final = decoding.final_row.ids
    assert text.startswith("Text:")
    assert re.sub(r"[\[\] ]", "", text.split(":")[1]).startswith("<50><3><77><12>")
    assert re.sub(r"[\[\] ]", "", last.split(":")[1]) == "".join(f"<{token}>" for token in final)
    assert any("at every step of the text." in line for line in rows)
    table = render_table(decoding, "p", numbered_pieces(), Terminal())
    assert table[3].split() == ["<50>", "<3>", "<77>", "<12>"]
    steps = render_steps(decoding, "p", numbered_pieces(), Terminal(), [4])
    shares = [float(line.split()[-1].strip("<>%")) for line in steps[3:7]]
    assert shares == pytest.approx([100 * 2**-bits for bits in decoding.final_row.surprise_bits], abs=0.51)
    assert any("tokens of the text a log-probability of" in line for line in steps)
    look = tracked_at(track_step(random_gpt2(3), decoding, 2), 1, decoding.text_ids[:1])
    track = render_track(look, "p", numbered_pieces(), Terminal())
    assert any(line.startswith("<3>*") for line in track)
    assert "the token of the text" in " ".join(track)


# ---------------------------------------------------------------- what the shades show


def test_the_numbers_shade_by_themselves():
    """The surest layer is the least undecided: its probabilities are dark, its entropies pale."""
    decoding, prompt, pieces = goldens.stored("measured")
    for name, measure in BY_OPTION.items():
        if not measure.is_in(decoding):
            continue
        lines = render_table(decoding, prompt, pieces, Terminal(), measure)
        rows = [line.split("Layer", 1)[-1] for line in lines if re.match(r" *\d+ ", line)]
        level_of = level_by(measure, decoding.rows)
        for line, row in zip(rows, decoding.rows, strict=True):
            bars = "".join((" " + Glyphs().chances)[level_of(value)] for value in measure.values(row))
            assert re.sub("[^▂▄▆█]", "", line) == bars.replace(" ", ""), name
        assert any(line.startswith("Shaded from ") for line in lines)


@pytest.mark.parametrize("option", ["entropy", "rank", "probability"])
def test_a_bound_is_where_a_shade_begins(option):
    measure = BY_OPTION[option]
    shades = Shades(measure, measure.low, 1000.0 if measure.high is None else measure.high, 5)
    bounds = shades.bounds()
    assert [bounds[0], bounds[-1]] == pytest.approx([shades.low, shades.high])
    assert [shades.level(bound * 1.0001 + 1e-9) for bound in bounds[:-1]] == [0, 1, 2, 3, 4]
    assert [shades.level(bound * 0.9999) for bound in bounds[1:]] == [0, 1, 2, 3, 4]
    assert [shades.level(value) for value in (math.inf, math.nan, 1e9)] == [0, 0, 4]


def test_numbers_that_are_all_alike_have_no_shade():
    (row,) = [LayerRow(12, (1, 2), False, (-1.0, -1.0), final_token_rank=(1, 1), entropy_bits=(0.0, 0.0))]
    for option in ("rank", "entropy"):
        assert shade_notes(BY_OPTION[option], [row], 12, Terminal()) == []
        assert [level_by(BY_OPTION[option], [row])(value) for value in (1.0, 0.0)] == [0, 0]
