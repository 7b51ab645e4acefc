"""How every layer does over a whole text, on average.

Teacher-forced: the text is read in disjoint windows, all positions of a window in one pass. The block outputs of
a window go through the lens a few positions at a time, so that nothing of size layers × positions × vocabulary is
ever there. Of a whole text only sums are kept: memory does not grow with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.decoding.text.processes import Processes
from layer_decoding.decoding.watching import OnStep, keeping
from layer_decoding.layers import Layer
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.lens import Lens, check_on, find_lens
from layer_decoding.lens.measures import Distributions, largest_logits, wide
from layer_decoding.lens.windows import (
    check_text,
    explaining_memory,
    lens_logits,
    positions_at_once,
    read_windows,
    window_length,
)
from layer_decoding.models.sizes import select_layers
from layer_decoding.results.measures import averaged
from layer_decoding.results.text import LayerSummary, TextMeasures

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CHECKED_EVERY = 1024  # tokens: whether a number was not finite is known only when all are computed
_LEAST_LOG = -745.0  # of a mean probability: about the least that float64 holds


def measure_text(
    model: "PreTrainedModel",
    ids: Sequence[int],
    *,
    layers: Sequence[Layer] | None = None,
    window: int | None = None,
    on_step: OnStep | None = None,
    lens: FittedLens | None = None,
    bias: bool = False,
    processes: Processes | None = None,
) -> TextMeasures:
    """How every layer does over all tokens of a text, on average.

    Args:
        ids: the text's tokens, at least two.
        layers: as for `decode_layers`, in shared context.
        window: tokens read at once; disjoint, each window scores its tokens from the second on. None for the
            model's context, at most 2,048.
        on_step: called as on_step(tokens read so far, {}) every few tokens.
        lens: one that was fitted to the model; None for the plain one.
        bias: also how far each layer's mean prediction is from the last one's: what the lens gets wrong on average.
        processes: several that read one text together, each its share of the windows; all get the same answer.

    Raises:
        UsageError: a text of fewer than two tokens; layers, window or ids out of range; a layer without a map.
        LayerDecodingError: the lens does not reproduce the model's own logits, or is another model's; or not enough
            memory; or another of the processes has died.
        Interrupted: Ctrl-C; carries the numbers of what was read, by this process.
    """
    found = find_lens(model, lens)
    shown = select_layers(layers, found.layer_count)
    found.check_layers(shown)
    length = window_length(model, window)
    check_text(model, ids)
    sums = TextSums(shown, bias)
    rank, count = (processes.rank, processes.count) if processes else (0, 1)
    starts = range(rank * length, len(ids) - 1, count * length)

    def read() -> int:
        windows = -(-sums.scored // (length - 1))  # none but the last of a text is shorter than the others
        return sums.scored + windows

    def result() -> TextMeasures | None:
        return sums.result(found, len(ids), read(), length) if sums.scored else None

    with keeping(result), explaining_memory(length), torch.inference_mode():
        check_on(found, ids)
        checked = 0
        for text, hidden in read_windows(found, ids, shown, length, positions_at_once(found, shown), starts):
            sums.add(text, lens_logits(found, hidden, shown))
            if sums.scored - checked >= _CHECKED_EVERY:
                sums.check()
                checked = sums.scored
            if on_step is not None:
                on_step(min(read() * count, len(ids)), {})
        if processes:
            sums.check()
            sums.share(processes)
    # Where a window of one token ends the text, it is read and there is nothing to score.
    return sums.result(found, len(ids), len(ids), length)


class TextSums:
    """The sums over the tokens scored so far.

    They stay where the logits are: to copy numbers from a GPU is to wait until it has computed them.
    """

    def __init__(self, layers: list[Layer], bias: bool = False) -> None:
        self.layers, self.bias = layers, bias
        self.measures = averaged()
        self.sums = torch.zeros(2 + len(self.measures), len(layers), dtype=torch.float64)
        self.predictions = torch.zeros(len(layers), 0, dtype=torch.float64)  # [R, V], once there are any
        self.scored = 0

    def add(self, text: torch.Tensor, logits: torch.Tensor) -> None:
        """Take logits [S, R, V], the predictions in the place of the tokens [S] of the text."""
        _, likeliest = largest_logits(logits)
        rows = Distributions(logits, likeliest, text)
        columns = [
            likeliest == likeliest[:, -1:],
            likeliest == text[:, None],
            *(getattr(rows, measure.field)() for measure in self.measures),
        ]
        self.sums = _added(self.sums, wide(torch.stack([column.float() for column in columns])).sum(1))
        if self.bias:
            self.predictions = _added(self.predictions, wide(logits.softmax(-1).sum(0)))
        self.scored += len(logits)

    def check(self) -> None:
        """Raise LayerDecodingError where some number was not finite."""
        check_finite(self.sums)

    def share(self, processes: Processes) -> None:
        """Become the sums of all processes."""
        self.sums, self.predictions = processes.summed(self.sums), processes.summed(self.predictions)
        self.scored = int(processes.summed(torch.tensor([float(self.scored)])))

    def result(self, lens: Lens, tokens: int, read: int, window: int) -> TextMeasures:
        """The means so far, of a text of so many tokens.

        Raises:
            LayerDecodingError: some number was not finite.
        """
        self.check()
        means = (self.sums / self.scored).T.tolist()  # [R][2 + measures]
        names = [measure.field for measure in self.measures]
        summaries = tuple(
            LayerSummary(layer, agreeing, correct, dict(zip(names, others, strict=True)), bias)
            for layer, (agreeing, correct, *others), bias in zip(self.layers, means, self._biases(), strict=True)
        )
        return TextMeasures(lens.layer_count, tokens, self.scored, read, window, summaries, lens=lens.name)

    def _biases(self) -> Sequence[float | None]:
        """KL(mean prediction of the last layer ‖ mean prediction of each) in bits: [R]."""
        if not self.bias:
            return [None] * len(self.layers)
        means = self.predictions / self.scored
        # A token that no row ever held likely adds nothing; one that only the last did would add infinity.
        return Distributions(means.log().clamp_min(_LEAST_LOG)).kl_to_final_bits().tolist()


def _added(sums: torch.Tensor, few: torch.Tensor) -> torch.Tensor:
    """Sums with a few more in them; there may be none yet."""
    return sums.to(few.device) + few if sums.numel() else few
