"""Every view on every screen: no line wider than the width, counted in what the stream really writes."""

import pytest
from wcwidth import wcswidth

import goldens
from conftest import random_gpt2
from layer_decoding import UsageError, beam_search, decode_layers, sample
from layer_decoding.decoding.text.along import read_layers, read_passage
from layer_decoding.decoding.text.means import measure_text
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.results.sampling import Distribution, ModelSamples, TokenShare
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Glyphs, Terminal
from layer_decoding.views.beam import render_search
from layer_decoding.views.distribution import render_panel
from layer_decoding.views.rows import render_decoding
from layer_decoding.views.sampling import (
    render_greedy,
    render_heading,
    render_layer,
    render_means,
    render_notes,
    render_sampling,
)
from layer_decoding.views.steps import render_steps
from layer_decoding.views.table import render_table
from layer_decoding.views.text import render_passage, render_summaries
from layer_decoding.views.track import render_track, tracked_at
from row_texts import OUR_ESCAPES, TABLE

VOCABULARY = 97
PIECES = goldens.StoredPieces([TABLE[token % len(TABLE)] for token in range(VOCABULARY)])
PROMPT = "从前，有 one 👩‍👧 é\n" * 2
PROMPT_IDS = [1, 2, 3]
STREAMS = {"utf-8": Glyphs(), "cp1252": ASCII, "ascii": ASCII}


@pytest.fixture(scope="module")
def results():
    """What a random model says, in tokens of every awkward kind: a function of a terminal for each view."""
    model = random_gpt2()
    decodings = {
        "shared": decode_layers(model, PROMPT_IDS, 30, track=(10, 11, 12)),
        "own": decode_layers(model, PROMPT_IDS, 30, context="own"),
    }
    search = beam_search(model, PROMPT_IDS, 12, num_beams=3, num_return_sequences=3, layers=[2], trace=True)
    sampling, greedy = (sample(model, PROMPT_IDS, 30, temperature=t, num_samples=2, seed=1) for t in (2.0, 0.0))
    ids = list(range(60))
    decodings["read"] = read_layers(model, ids, range(3, 33), track=(10, 11, 12))
    measures, passage = measure_text(model, ids), read_passage(model, ids, range(60))
    shares = tuple(TokenShare(rank, rank * 5, 1 / rank, 0.5 / rank) for rank in (1, 2, 3, 5, 9))
    panel = Distribution(sampling.setting, VOCABULARY, 4, 0.9, shares)
    views = {
        "beam": lambda screen: render_search(search, PROMPT, PIECES, screen),
        "passage": lambda screen: render_passage(passage, range(1, 5), 60, PIECES, screen),
        "means": lambda screen: render_summaries(measures, screen),
        "panel": lambda screen: render_panel(panel, sampling.samples[0], PIECES, screen),
        "sampling": lambda screen: [
            *render_heading(PROMPT, 1, screen),
            *render_layer(2, 4, screen),
            *render_greedy(greedy.samples[0], PIECES, screen),
            *render_sampling(sampling, greedy.samples[0], PIECES, screen),
            *render_means(ModelSamples(4, greedy.samples[0], (sampling,)), screen),
            *render_notes(screen),
        ],
    }
    for name, decoding in decodings.items():
        views |= views_along(name, decoding)
    return views


def views_along(name, decoding):
    """The views of every layer along a text."""
    look = tracked_at(decoding, 20, decoding.final_row.ids[:19]) if decoding.tracked_ids else None
    return {
        f"{name} rows": lambda screen: render_decoding(decoding, PROMPT, PIECES, screen),
        f"{name} table": lambda screen: render_table(decoding, PROMPT, PIECES, screen),
        f"{name} numbers": lambda screen: render_table(decoding, PROMPT, PIECES, screen, BY_OPTION["entropy"]),
        f"{name} steps": lambda screen: render_steps(decoding, PROMPT, PIECES, screen, [1, 4]),
    } | ({f"{name} track": lambda screen: render_track(look, PROMPT, PIECES, screen)} if look else {})


WIDTHS = dict.fromkeys(STREAMS, (20, 23, 27, 32, 40, 58)) | {"ascii": [*range(20, 32), *range(33, 60, 5), 79]}


@pytest.mark.parametrize("encoding", STREAMS)
def test_no_line_is_wider_than_the_screen(results, encoding):
    refused = set()
    for width in WIDTHS[encoding]:
        screen = Terminal(PLAIN, STREAMS[encoding], width, encoding)
        for name, render in results.items():
            try:
                lines = render(screen)
            except UsageError:
                refused.add(name)
                continue
            for line in lines:
                written = line.encode(encoding, "backslashreplace").decode(encoding)
                assert 0 <= wcswidth(written) <= width, (name, width, written)
    assert refused <= {f"{text} {view}" for text in ("shared", "own", "read") for view in ("steps", "track")}


@pytest.mark.parametrize("encoding", STREAMS)
def test_nor_in_colour(results, encoding):
    for width in (20, 33, 80):
        screen = Terminal(COLOUR, STREAMS[encoding], width, encoding)
        for name in {name for name in results if not name.endswith(("steps", "track"))}:
            for line in results[name](screen):
                written = OUR_ESCAPES.sub("", line).encode(encoding, "backslashreplace").decode(encoding)
                assert 0 <= wcswidth(written) <= width, (name, width, written)
