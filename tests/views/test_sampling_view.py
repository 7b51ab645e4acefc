"""The sampling script's answer as text and as JSON: the same words in colour and without, numbers, bars, the cut."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from conftest import SOURCE
from layer_decoding.errors import UsageError
from layer_decoding.files.documents import sampling_document, to_json
from layer_decoding.results.sampling import Distribution, ModelSamples, Sample, Sampling, SamplingRun, TokenShare
from layer_decoding.results.settings import DEFAULT_SETTINGS, GREEDY, Setting, check_runs, top_k_notice
from layer_decoding.terminal.theme import ASCII, Glyphs, Terminal
from layer_decoding.views.distribution import bar, render_panel
from layer_decoding.views.sampling import (
    render_greedy,
    render_heading,
    render_layer,
    render_means,
    render_notes,
    render_sampling,
)
from multi_layer_sampling_decoding_demo import parse_values
from row_texts import PIECES, TABLE, UNMARKED, assert_colour_is_decoration, words


def text_of(ids, index=0, nats=-1.0, kept=None):
    """A sample of given tokens, its numbers all alike unless said."""
    length = len(ids)
    sizes = tuple(kept or (5,) * length)
    return Sample(index, tuple(ids), False, (nats,) * length, (2.5,) * length, sizes, sizes)


token_lists = st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=14)


@st.composite
def models(draw):
    """A small run on one model: a yardstick and a few settings with as many samples."""
    count = draw(st.integers(1, 3))
    samplings = tuple(
        Sampling(setting, 0, (1,), 20, tuple(text_of(draw(token_lists), i) for i in range(count)))
        for setting in draw(st.sets(st.sampled_from([GREEDY, *DEFAULT_SETTINGS]), min_size=1, max_size=3))
    )
    return ModelSamples(12, text_of(draw(token_lists)), samplings)


@st.composite
def distributions(draw):
    """What a setting might draw from, and a text."""
    ids = draw(st.lists(st.integers(0, len(TABLE) - 1), min_size=2, max_size=9, unique=True))
    ranks = sorted(draw(st.sets(st.integers(1, 60_000), min_size=len(ids), max_size=len(ids))))
    kept = draw(st.sampled_from([1, ranks[0], ranks[-1], 60_000]))
    shares = tuple(
        TokenShare(rank, token, draw(st.floats(1e-12, 1)), draw(st.floats(0, 1)) if rank <= kept else 0.0)
        for rank, token in zip(ranks, ids, strict=True)
    )
    setting = draw(st.sampled_from([GREEDY, *DEFAULT_SETTINGS]))
    sizes = draw(st.lists(st.integers(1, 60_000), min_size=len(ids), max_size=len(ids)))
    return Distribution(setting, 60_000, kept, draw(st.floats(0, 1)), shares), text_of(ids, kept=sizes)


def whole(model, terminal):
    """All lines of a run, one after the other as they are printed."""
    lines = render_heading("A [long] time\n", -3, terminal) + render_layer(6, 12, terminal)
    lines += render_greedy(model.greedy, PIECES, terminal)
    for sampling in model.samplings:
        lines += render_sampling(sampling, model.greedy, PIECES, terminal)
    return lines + render_means(model, terminal) + render_notes(terminal)


@given(models(), st.none() | st.integers(20, 200), st.sampled_from([Glyphs(), ASCII]))
def test_colour_without_escapes_is_plain_without_marks(model, width, glyphs):
    assert_colour_is_decoration(lambda terminal: whole(model, terminal), width, glyphs)


@given(distributions(), st.none() | st.integers(20, 200), st.sampled_from([Glyphs(), ASCII]))
def test_panels_in_colour_and_plain(case, width, glyphs):
    assert_colour_is_decoration(lambda terminal: render_panel(*case, PIECES, terminal), width, glyphs)


@given(models(), st.integers(20, 120))
def test_wrapping_loses_no_token(model, width):
    for sampling in model.samplings:
        narrow, wide = (
            "".join(render_sampling(sampling, model.greedy, PIECES, Terminal(UNMARKED, width=cells)))
            for cells in (width, None)
        )
        assert words(narrow) == words(wide)


def test_ascii_screens_get_ascii():
    ids = [TABLE.index(word.encode()) for word in (" and", "\n", " ", "I")]
    model = ModelSamples(12, text_of(ids), (Sampling(Setting(), 0, (1,), 4, (text_of(ids[::-1]),)),))
    shares = (TokenShare(1, ids[0], 0.5, 0.7), TokenShare(2, ids[1], 0.2, 0.0))
    panel = Distribution(Setting(top_k=1), 97, 1, 0.5, shares)
    terminal = Terminal(glyphs=ASCII, width=60)
    lines = whole(model, terminal) + render_panel(panel, text_of(ids, kept=[1, 2, 3, 97]), PIECES, terminal)
    assert all(line.isascii() for line in lines)


def test_a_block_by_hand():
    """The first difference is marked, what the texts share is not."""
    a, b, c, d = (TABLE.index(word) for word in (b" and", b" the", b" little", b","))
    greedy, drawn = text_of([a, b, c]), text_of([a, d, c, d, d, d, d], nats=-1.5)
    lines = render_sampling(Sampling(Setting(0.7), 0, (1,), 6, (drawn,)), greedy, PIECES, Terminal(width=80))
    assert lines == [
        "",
        "Temperature 0.7",
        "  1    -10.50   2.50         3      20%  and│[,] little[,,,,]",
    ]
    assert render_sampling(Sampling(Setting(), 0, (1,), 3, (greedy,)), greedy, PIECES, Terminal())[2:] == [
        "  1     -3.00   2.50         3       0%  and the little"
    ]
    assert render_greedy(greedy, PIECES, Terminal())[1].endswith("and the little")


def test_a_short_text_has_no_trigrams_to_repeat():
    lines = render_greedy(text_of([0, 1]), PIECES, Terminal())
    assert lines[1].split()[:4] == ["-2.00", "2.50", "2", "-"]


def test_means_by_hand():
    texts = (text_of([1, 2, 3], nats=-2), text_of([1, 1, 1, 1], nats=-1), text_of([1], nats=-5))
    model = ModelSamples(12, text_of([1, 2]), (Sampling(Setting(top_k=5), 0, (1,), 4, texts),))
    assert render_means(model, Terminal()) == [
        "",
        "mean of 3    log p   bits  distinct  repeats",
        "greedy       -2.00   2.50       2.0        -",
        "top-k 5      -5.00   2.50       1.7      25%",
    ]


def test_narrow_screens_have_the_text_under_its_numbers():
    greedy = text_of([0, 1, 2])
    lines = render_greedy(greedy, PIECES, Terminal(width=50))
    assert lines == ["Greedy", "        -3.00   2.50         3       0%", "     and the little"]


# ---------------------------------------------------------------- panels


def panel(setting, shares, kept, sizes, width=80):
    found = Distribution(setting, 97, kept, 0.8, tuple(TokenShare(*share) for share in shares))
    return render_panel(found, text_of(range(len(sizes)), kept=sizes), PIECES, Terminal(width=width))


def test_the_cut_is_drawn_where_it_falls():
    shares = [(1, 0, 0.5, 0.625), (2, 1, 0.3, 0.375), (3, 2, 0.1, 0.0), (4, 3, 0.0004, 0.0)]
    lines = panel(Setting(top_k=2), shares, 2, [2, 2, 2])
    assert lines[1] == "Top-k 2: 2 of 97 tokens can be drawn; the model gives them 80.0%."
    kinds = [re.match(r"\s*(\d|─|…)?", line)[1] for line in lines[3:8]]
    assert kinds == ["1", "2", "─", "3", "4"]
    assert [line.split()[2] for line in (lines[3], lines[4], lines[6], lines[7])] == [
        "50.0%",
        "30.0%",
        "10.0%",
        "0.04%",
    ]
    assert lines[3].split()[4] == "62.5%"
    assert lines[6].split()[-1] == "-"
    assert lines[8] == "  … 93 more"
    assert lines[9] == "Tokens that can be drawn, along sample 1: 2 at every step, sure or not."


def test_tokens_between_the_first_and_the_cut_are_counted():
    shares = [(1, 0, 0.5, 0.6), (2, 1, 0.3, 0.3), (60, 2, 0.1, 0.1), (61, 3, 0.01, 0.0)]
    lines = panel(Setting(top_p=0.9), shares, 60, [2, 9])
    assert "  … 57 more" in lines
    assert [line.split()[0] for line in lines[3:]][:6] == ["1", "2", "…", "60", "────", "61"]


def test_nothing_is_cut_where_nothing_filters():
    lines = panel(Setting(2.0), [(1, 0, 0.5, 0.3), (2, 1, 0.3, 0.2)], 97, [1, 90])
    assert lines[1] == "Temperature 2: nothing is cut off, each of 97 tokens can be drawn."
    assert not any("cut ─" in line for line in lines)
    assert lines[6].startswith("Fewest tokens that hold 90%, along sample 1")


def test_the_nucleus_is_wide_where_the_model_hesitates():
    lines = panel(Setting(top_p=0.9), [(1, 0, 0.5, 1.0), (2, 1, 0.5, 0.0)], 1, [1, 97, 10])
    bars = [line.count("█") for line in lines[-3:]]
    assert bars[0] < bars[2] < bars[1]
    assert [line.split()[1] for line in lines[-3:]] == ["1", "97", "10"]
    assert wcswidth(lines[-2]) in (79, 80)


@given(st.floats(0, 1), st.integers(1, 60))
def test_bars_are_as_long_as_their_share(share, cells):
    drawn = bar(share, cells, Glyphs())
    assert abs(len(drawn) - share * cells) <= 1
    assert bool(drawn) == (share > 0)
    assert set(bar(share, cells, ASCII)) <= {"#"}


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "setting, label",
    [
        (Setting(), "temperature 1"),
        (GREEDY, "temperature 0"),
        (Setting(0.1 + 0.2), "temperature 0.30000000000000004"),
        (Setting(0.7, 5, 0.9, 0.05), "temperature 0.7, top-k 5, top-p 0.9, min-p 0.05"),
        (Setting(top_k=50), "top-k 50"),
        (Setting(top_p=1e-7), "top-p 1e-07"),
    ],
)
def test_labels(setting, label):
    assert setting.label == label


@pytest.mark.parametrize(
    "text, name, kind, values",
    [
        ("0.5", "temperature", float, [0.5]),
        ("0,0.5, 1,2e0", "temperature", float, [0, 0.5, 1, 2]),
        ("0,50", "top_k", int, [0, 50]),
        ("1", "top_p", float, [1]),
    ],
)
def test_lists_of_values(text, name, kind, values):
    assert parse_values(text, name, kind) == values


@pytest.mark.parametrize(
    "text, name, kind, sentence",
    [
        ("", "temperature", float, "'' in --temperature is not a number; give numbers such as 0.5,1"),
        ("1,x", "temperature", float, "'x' in --temperature"),
        ("1,-2", "temperature", float, "The temperature is -2"),
        ("2.5", "top_k", int, "'2.5' in --top-k is not a whole number; give whole numbers such as 0,50"),
        ("9" * 5000, "top_k", int, "is not a whole number"),
        ("0", "top_p", float, "Top-p is 0"),
        ("1", "min_p", float, "Min-p is 1"),
    ],
)
def test_lists_that_cannot_be_meant(text, name, kind, sentence):
    with pytest.raises(UsageError, match=sentence) as refused:
        parse_values(text, name, kind)
    assert len(str(refused.value)) < 160


def test_too_many_runs_are_counted():
    check_runs(100)
    check_runs(8, 12)
    with pytest.raises(UsageError, match="combine to 101 runs"):
        check_runs(101)
    with pytest.raises(UsageError, match="9 settings on 12 models make 108 runs"):
        check_runs(9, 12)


def test_a_top_k_above_the_vocabulary_is_said():
    assert top_k_notice([Setting(top_k=97), Setting()], 97) == []
    assert top_k_notice([Setting(top_k=98), Setting(top_k=5000)], 97) == [
        "Top-k 98, 5,000 cuts nothing off: the vocabulary has 97 tokens."
    ]


# ---------------------------------------------------------------- JSON


def test_the_document_is_the_schema():
    drawn = (text_of([1, 2, 3]), text_of([4], index=1, nats=-math.inf))
    model = ModelSamples(12, text_of([1, 2]), (Sampling(Setting(0.5, 7), 3, (1,), 20, drawn),))
    run = SamplingRun(12, (1,), 20, 3, model, (replace(model, layer=6), model))
    loaded = SimpleNamespace(name="mini", device="cpu", dtype="float32", revision=None)
    pieces = SimpleNamespace(text=lambda ids: "|".join(map(str, ids)))
    document = json.loads(to_json(sampling_document(run, "A", loaded, pieces)))
    assert list(document) == [
        *("schema", "versions", "model", "device", "dtype", "layer_count", "prompt", "max_new_tokens"),
        *("seed", "greedy", "settings", "layers"),
    ]
    assert document["schema"] == "layer-decoding/sampling/1"
    assert (document["seed"], document["max_new_tokens"], document["prompt"]) == (3, 20, {"text": "A", "ids": [1]})
    (setting,) = document["settings"]
    assert list(setting) == ["temperature", "top_k", "top_p", "min_p", "samples"]
    assert [setting[name] for name in ("temperature", "top_k", "top_p", "min_p")] == [0.5, 7, 1, 0]
    numbers = {"mean_entropy_bits": 2.5, "finished": False}
    assert setting["samples"] == [
        {
            "index": 0,
            "ids": [1, 2, 3],
            "text": "1|2|3",
            "logprob_nats": -3.0,
            **numbers,
            "distinct_tokens": 3,
            "repeated_trigram_share": 0,
        },
        {
            "index": 1,
            "ids": [4],
            "text": "4",
            "logprob_nats": None,
            **numbers,
            "distinct_tokens": 1,
            "repeated_trigram_share": None,
        },
    ]
    assert document["greedy"]["ids"] == [1, 2]
    assert [layer["layer"] for layer in document["layers"]] == [6, 12]
    assert document["layers"][1]["settings"] == document["settings"]


def test_rendering_imports_no_torch_and_no_matplotlib():
    code = (
        "import sys, layer_decoding.views.sampling, layer_decoding.views.distribution, layer_decoding.files.figure\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'numpy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
