"""What reading a given text returns: frozen dataclasses of plain Python values, no text and no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from layer_decoding.layers import PLAIN_LENS, Layer
from layer_decoding.results.greedy import LayerDecoding


@dataclass(frozen=True)
class LayerSummary:
    """How one layer did over all scored tokens of a text: shares from 0 to 1, and means."""

    layer: Layer
    agreeing_share: float  # its top token is the last layer's
    correct_share: float  # its top token is the text's own
    means: Mapping[str, float]  # {field of a measure that averages: its mean}
    bias_bits: float | None = None  # KL(the last layer's mean prediction ‖ its own), where that was asked for

    @property
    def mean_logprob_nats(self) -> float:
        """Of the text's own tokens."""
        return -self.means["surprise_bits"] * math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(- mean log p of the text's own tokens); infinite where that is more than a float holds."""
        try:
            return math.exp(-self.mean_logprob_nats)
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class Passage:
    """Neighbouring tokens of a text, and what every layer said in the place of each.

    `first` is the number of the first token, counted from 1. `stretches` are the parts that lie in one window, each
    with the place in `ids` at which it begins: the first token of a window is read but not predicted, and in none.
    """

    first: int
    ids: tuple[int, ...]
    stretches: tuple[tuple[int, LayerDecoding], ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers read, ascending, the last layer last; none where there is nothing to predict."""
        return tuple(row.layer for row in self.stretches[0][1].rows) if self.stretches else ()

    def predictions(self, layer: Layer) -> list[int | None]:
        """A layer's token in the place of each: [ids], None where a window begins."""
        placed: list[int | None] = [None] * len(self.ids)
        for start, decoding in self.stretches:
            row = next(row for row in decoding.rows if row.layer == layer)
            placed[start : start + len(row.ids)] = row.ids
        return placed

    def agrees(self, layer: Layer) -> list[bool | None]:
        """Whether each prediction is the last layer's."""
        finals = self.predictions(self.layers[-1] if self.layers else layer)
        return [
            None if token is None else token == final
            for token, final in zip(self.predictions(layer), finals, strict=True)
        ]

    def correct(self, layer: Layer) -> list[bool | None]:
        """Whether each prediction is the text's own token."""
        return [
            None if token is None else token == own
            for token, own in zip(self.predictions(layer), self.ids, strict=True)
        ]


@dataclass(frozen=True)
class TextMeasures:
    """A text read by every layer, in disjoint windows that each score their tokens from the second on.

    `token_count` is the length of the whole text; `scored_count` is the number of tokens that the means are over, and
    `read_count` how far the text was read, which is all of it unless reading was interrupted.
    """

    layer_count: int
    token_count: int
    scored_count: int
    read_count: int
    window: int  # tokens in each window; the last may be shorter
    layers: tuple[LayerSummary, ...]  # ascending, the last layer's last
    lens: str = PLAIN_LENS  # what the layers were read with
