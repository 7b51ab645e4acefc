"""The bars of every part, by hand, on screens of every width."""

import pytest

from layer_decoding.errors import UsageError
from layer_decoding.results.why import Contribution, Why
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import ASCII, Terminal
from layer_decoding.views.why import render_why

PARTS = (
    Contribution("embeddings", None, 0.5),
    Contribution("attention", 1, 0.25),
    Contribution("attention", 1, -1.0, head=1),
    Contribution("mlp", 1, 2.0),
    Contribution("norm bias", None, 0.0),
)


@pytest.fixture
def why(mini):
    sun, little = (mini.tokenizer.encode(word)[0] for word in (" sun", " little"))
    return Why(1, 1, tuple(mini.tokenizer.encode("the")), (), sun, little, 1.7500004, PARTS)


def test_bars_by_hand(mini, why):
    lines = render_why(why, "the", Pieces(mini.tokenizer), Terminal(glyphs=ASCII, width=50))
    assert lines[2:9] == [
        "Step 1: the logit of ' sun' less that",
        "of ' little', part by part",
        "embeddings           +0.500            |##",
        "attention 1, bias    +0.250            |#",
        "attention 1, head 1  -1.000       #####|",
        "MLP 1                +2.000            |##########",
        "norm bias            +0.000            |",
    ]
    text = " ".join(lines)
    assert "Largest: MLP 1 +2.000, attention 1, head 1 -1.000, embeddings +0.500." in text
    assert "up to +1.750; the model's own difference is +1.750; missing 4e-07." in text


@pytest.mark.parametrize("width", range(27, 90, 7))
def test_lines_keep_the_width(mini, why, width):
    assert max(map(len, render_why(why, "the", Pieces(mini.tokenizer), Terminal(width=width)))) <= width


def test_a_screen_too_narrow_is_refused(mini, why):
    with pytest.raises(UsageError, match="27 cells"):
        render_why(why, "the", Pieces(mini.tokenizer), Terminal(width=26))
