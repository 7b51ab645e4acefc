"""Figures of what temperature, top-k and top-p do to a distribution, by matplotlib, which is an optional extra.

It is imported when a figure is drawn and never otherwise. Figures are made without its global state (pyplot), so
that none is left open and no screen is needed.
"""

import logging
import math
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING

from layer_decoding.errors import LayerDecodingError
from layer_decoding.results.sampling import Curves
from layer_decoding.results.settings import plain
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.distribution import token_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes


TOY_LOGITS = (1.0, 5.0, 7.0, 10.0)
TOY_TEMPERATURES = [10 ** (tenths / 10) for tenths in range(-20, 41)]  # 0.01 to 10,000
_DEFAULT_TOP_K, _DEFAULT_TOP_P = 50, 0.9  # drawn where no setting has one of its own
_CUT_COLOURS = {"top-k": "tab:orange", "top-p": "tab:red"}
_STYLES = ("--", ":", "-.")  # of several cuts of one kind


def check_matplotlib() -> None:
    """Raise LayerDecodingError where there is no matplotlib to draw with."""
    if find_spec("matplotlib") is None:
        raise LayerDecodingError(
            "A .png file is drawn with matplotlib, which is not installed; run 'pip install matplotlib' first."
        )


def figure(curves: Curves, pieces: Pieces, title: str) -> bytes:
    """Four plots of one next-token distribution, as the content of a PNG file."""
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    sheet = Figure(figsize=(13, 9), dpi=120, layout="constrained")
    FigureCanvasAgg(sheet)
    sheet.suptitle(title, parse_math=False)
    ((toy, tempered), (cumulative, histogram)) = sheet.subplots(2, 2)
    _plot_toy(toy)
    _plot_tempered(tempered, curves, pieces)
    _plot_cumulative(cumulative, curves)
    _plot_histogram(histogram, curves)
    content = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a token in a script that the font lacks is drawn as boxes
        sheet.savefig(content, format="png")
    return content.getvalue()


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    """Probabilities of a few logits at one temperature above 0."""
    largest = max(logits)
    weights = [math.exp((logit - largest) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def nucleus_size(probabilities: Sequence[float], share: float) -> int:
    """How many ranked probabilities top-p keeps, the one that crosses p included."""
    total = 0.0
    for size, probability in enumerate(probabilities, 1):
        total += probability
        if total >= share:
            return size
    return len(probabilities)


def _plot_toy(axes: "Axes") -> None:
    """What temperature does to four logits, from nearly greedy to nearly uniform."""
    rows = [softmax(TOY_LOGITS, temperature) for temperature in TOY_TEMPERATURES]
    for index, logit in reversed(list(enumerate(TOY_LOGITS))):
        axes.plot(TOY_TEMPERATURES, [row[index] for row in rows], label=f"logit {plain(logit)}", linewidth=2)
    axes.axvline(1, color="grey", linestyle=":", linewidth=1)
    axes.axhline(1 / len(TOY_LOGITS), color="grey", linestyle=":", linewidth=1)
    axes.set(xscale="log", xlabel="temperature", ylabel="probability", title="Softmax of the logits 1, 5, 7 and 10")
    axes.text(0.012, 0.9, "greedy", color="grey")
    axes.text(9000, 1 / len(TOY_LOGITS) + 0.02, "uniform", color="grey", horizontalalignment="right")
    axes.legend()


def _plot_tempered(axes: "Axes", curves: Curves, pieces: Pieces) -> None:
    """The likeliest tokens at each temperature that was chosen."""
    places = range(len(curves.top_ids))
    for temperature, probabilities in curves.tempered:
        axes.plot(places, probabilities, marker="o", markersize=4, label=f"temperature {plain(temperature)}")
    labels = [token_label(token, pieces, Terminal()) for token in curves.top_ids]
    axes.set_xticks(places, labels, rotation=60, horizontalalignment="right", parse_math=False)
    title = f"The {len(labels)} likeliest next tokens, by temperature"
    axes.set(ylabel="probability", title=title, ylim=(0, None))
    axes.legend()


def _plot_cumulative(axes: "Axes", curves: Curves) -> None:
    """How much the first tokens hold together, and where top-k and top-p cut."""
    ranks = range(1, len(curves.probabilities) + 1)
    sums, total = [], 0.0
    for probability in curves.probabilities:
        total += probability
        sums.append(total)
    axes.plot(ranks, sums, color="tab:blue", linewidth=2, drawstyle="steps-post")
    for top_k, style in zip(curves.top_ks or (_DEFAULT_TOP_K,), cycle(_STYLES)):
        size = min(top_k, len(sums))
        held = f"top-k {top_k}: holds {sums[size - 1]:.0%}"
        axes.axvline(size, color=_CUT_COLOURS["top-k"], linestyle=style, label=held)
    for top_p, style in zip(curves.top_ps or (_DEFAULT_TOP_P,), cycle(_STYLES)):
        size = nucleus_size(curves.probabilities, top_p)
        tokens = f"top-p {plain(top_p)}: {size:,} token{'s' * (size > 1)}"
        axes.plot([1, size, size], [top_p, top_p, 0], color=_CUT_COLOURS["top-p"], linestyle=style, label=tokens)
    title = "Probability of the likeliest tokens together"
    axes.set(xscale="log", xlim=(1, max(2, len(sums))), ylim=(0, 1.02), xlabel="tokens, likeliest first", title=title)
    axes.set_ylabel("cumulative probability")
    axes.legend(loc="lower right")


def _plot_histogram(axes: "Axes", curves: Curves) -> None:
    """How many tokens are how likely: a few carry the text, the tail is long."""
    exponents = [math.log10(probability) for probability in curves.probabilities if probability > 0]
    lowest, highest = math.floor(min(exponents)), math.ceil(max(exponents))
    edges = [10 ** (quarter / 4) for quarter in range(4 * lowest, 4 * max(highest, lowest + 1) + 1)]
    positive = [probability for probability in curves.probabilities if probability > 0]
    axes.hist(positive, bins=edges, color="tab:blue", edgecolor="white", linewidth=0.3)
    title = f"The probabilities of all {len(curves.probabilities):,} tokens"
    axes.set(xscale="log", yscale="log", xlabel="probability", ylabel="tokens", title=title)
