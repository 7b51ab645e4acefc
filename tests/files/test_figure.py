"""The figure of --save FILE.png: what is drawn, that it is a picture, and what is said where matplotlib is missing."""

import math
import sys
from importlib.util import find_spec

import pytest

import goldens
from layer_decoding.errors import LayerDecodingError
from layer_decoding.files import figure as plots
from layer_decoding.results.sampling import Curves

matplotlib_needed = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib (the plot extra) is missing")
PIECES = goldens.StoredPieces([b" and", b" $x^2$", "你好".encode(), b"\xe2", b"\n", b"\x1b[31m"])
SHARES = (0.4, 0.3, 0.15, 0.1, 0.05, 0.0)
CURVES = Curves(tuple(range(6)), SHARES, ((0.5, SHARES), (1.0, SHARES)), (2, 50), (0.5, 1e-9))


@matplotlib_needed
@pytest.mark.parametrize("curves", [CURVES, Curves((0,), (1.0,), ((1.0, (1.0,)),), (), ())])
def test_a_figure_is_a_picture(curves, recwarn):
    """Of tokens that no font has, that read as mathematics, or that a terminal would obey."""
    picture = plots.figure(curves, PIECES, "The next token after 'a $b$ \n'")
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1560, 1080)
    assert not recwarn.list
    assert "matplotlib.pyplot" not in sys.modules  # its global state


@matplotlib_needed
def test_the_four_plots_show_their_numbers():
    from matplotlib.figure import Figure

    toy, tempered, cumulative, histogram = Figure().subplots(2, 2).flat
    plots._plot_toy(toy)
    plots._plot_tempered(tempered, CURVES, PIECES)
    plots._plot_cumulative(cumulative, CURVES)
    plots._plot_histogram(histogram, CURVES)
    temperatures, likeliest = toy.lines[0].get_data()
    assert (min(temperatures), max(temperatures)) == pytest.approx((0.01, 10_000))
    assert (likeliest[0], likeliest[-1]) == pytest.approx((1, 0.25), abs=1e-3)
    assert tempered.get_xticklabels()[0].get_text() == "·and"
    assert [text.get_text() for text in tempered.get_legend().get_texts()] == ["temperature 0.5", "temperature 1"]
    assert cumulative.lines[0].get_ydata() == pytest.approx([0.4, 0.7, 0.85, 0.95, 1, 1])
    assert [text.get_text() for text in cumulative.get_legend().get_texts()] == [
        *("top-k 2: holds 70%", "top-k 50: holds 100%", "top-p 0.5: 2 tokens", "top-p 1e-09: 1 token")
    ]
    assert sum(bar.get_height() for bar in histogram.patches) == 5  # a probability of 0 has no place on this scale


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    for attempt in (plots.check_matplotlib, lambda: plots.figure(CURVES, PIECES, "")):
        with pytest.raises(LayerDecodingError, match=r"pip install matplotlib") as refused:
            attempt()
        assert refused.value.exit_code == 1


def test_softmax_by_hand():
    assert plots.softmax((0.0, math.log(3)), 1) == pytest.approx([0.25, 0.75])
    assert plots.softmax((1.0, 5.0, 7.0, 10.0), 0.01) == pytest.approx([0, 0, 0, 1])
    assert plots.softmax((1.0, 5.0, 7.0, 10.0), 10_000) == pytest.approx([0.25] * 4, abs=1e-3)


@pytest.mark.parametrize("share, size", [(0.1, 1), (0.4, 1), (0.41, 2), (0.96, 5), (1, 5), (1.1, 6)])
def test_nucleus_sizes(share, size):
    assert plots.nucleus_size(SHARES, share) == size
