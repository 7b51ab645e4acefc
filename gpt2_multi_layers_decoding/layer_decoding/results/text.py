"""What reading a given text returns: frozen dataclasses of plain Python values, no text and no torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSummary:
    """How one layer did over all scored tokens of a text: shares from 0 to 1, and means."""

    layer: int
    agreeing_share: float  # its top token is the last layer's
    correct_share: float  # its top token is the text's own
    mean_entropy_bits: float
    mean_kl_to_final_bits: float
    mean_logprob_nats: float  # of the text's own tokens

    @property
    def perplexity(self) -> float:
        """exp(- mean log p of the text's own tokens); infinite where that is more than a float holds."""
        try:
            return math.exp(-self.mean_logprob_nats)
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class LayerPredictions:
    """One layer's top token for each token of a passage; None where a window begins and nothing was read before."""

    layer: int
    ids: tuple[int | None, ...]


@dataclass(frozen=True)
class Passage:
    """Neighbouring tokens of a text, and what each layer predicted in the place of each.

    `first` is the number of the first token, counted from 1. Of a text whose reading was interrupted it holds
    what had been read.
    """

    first: int
    ids: tuple[int, ...]
    predictions: tuple[LayerPredictions, ...]  # layers ascending, the last layer's last

    @property
    def final(self) -> LayerPredictions:
        """The last layer's predictions: the model's own."""
        return self.predictions[-1]

    def agrees(self, row: LayerPredictions) -> tuple[bool | None, ...]:
        """Whether each prediction is the last layer's: None where there is none."""
        return tuple(
            None if token is None else token == final for token, final in zip(row.ids, self.final.ids, strict=True)
        )

    def correct(self, row: LayerPredictions) -> tuple[bool | None, ...]:
        """Whether each prediction is the text's own token: None where there is none."""
        return tuple(None if token is None else token == own for token, own in zip(row.ids, self.ids, strict=True))


@dataclass(frozen=True)
class TextMeasures:
    """A text read by every layer, in disjoint windows that each score their tokens from the second on.

    `token_count` is the length of the whole text; `scored_count` is the number of tokens that the means are over.
    """

    layer_count: int
    token_count: int
    scored_count: int
    window: int  # tokens in each window; the last may be shorter
    layers: tuple[LayerSummary, ...]  # ascending, the last layer's last
    passage: Passage
