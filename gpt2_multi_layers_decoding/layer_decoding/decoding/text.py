"""A given text through the lens: what every layer predicts for each of its tokens, and how it does on average.

Teacher-forced: the text is read in disjoint windows, all positions of a window in one pass. The block outputs of
a window go through the lens a few positions at a time, so that nothing of size layers × positions × vocabulary is
ever there, and of the numbers only their sums are kept: memory does not grow with the text.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.errors import LayerDecodingError, UsageError, is_out_of_memory
from layer_decoding.lens.lens import Lens, block_outputs, check_on, find_lens, stacked
from layer_decoding.lens.measures import distributions
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import context_length, select_layers, vocabulary_size
from layer_decoding.results.beam import LensRow
from layer_decoding.results.text import LayerPredictions, LayerSummary, Passage, TextMeasures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


LONGEST_WINDOW = 2048  # unless asked for: attention over the 100,000 tokens that some models allow is not affordable
_LOGITS_AT_ONCE = 2**23  # numbers, 34 MB in float32, of which a handful are there at a time: fewer make small products
OnTokens = Callable[[int], None]


class TextInterrupted(KeyboardInterrupt):
    """Ctrl-C while reading; `result` holds the numbers of what was read, None if there is nothing."""

    def __init__(self, result: TextMeasures | None) -> None:
        super().__init__("reading was interrupted")
        self.result = result


def measure_text(
    model: "PreTrainedModel",
    ids: Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    passage: range = range(40),
    window: int | None = None,
    on_tokens: OnTokens | None = None,
) -> TextMeasures:
    """Every layer's predictions for the tokens of a text: top tokens of a passage, means over all of it.

    Args:
        ids: the text's tokens, at least two.
        layers: block numbers to return (0 is the embeddings), None for 1 … L; the last is always there.
        passage: positions in the text, counted from 0, whose top tokens to keep; what lies past its end is left out.
        window: tokens read at once; disjoint, each window scores its tokens from the second on. None for the
            model's context, at most 2,048.
        on_tokens: called as on_tokens(tokens read so far) every few tokens.

    Raises:
        UsageError: a text of fewer than two tokens; layers, passage, window or ids out of range.
        LayerDecodingError: the lens does not reproduce the model's own logits; or not enough memory.
        TextInterrupted: Ctrl-C; carries the numbers of what was read.
    """
    lens = find_lens(model)
    shown = select_layers(layers, lens.layer_count)
    length = window_length(model, window)
    _check_text(ids, vocabulary_size(model), passage)
    books = TextSums(ids, shown, passage)
    try:
        with torch.inference_mode():
            for start, hidden in _read_windows(lens, ids, shown, length):
                logits = lens.logits(hidden.flatten(0, 1)).view(*hidden.shape[:2], -1)  # [S, R, V]
                books.add(start, logits)
                if on_tokens is not None:
                    on_tokens(books.read)
    except KeyboardInterrupt:
        raise TextInterrupted(books.result(lens.layer_count, length) if books.scored else None) from None
    except Exception as error:
        if is_out_of_memory(error):
            raise LayerDecodingError(
                f"There is not enough memory to read {length:,} tokens at once; try a smaller --window or --model."
            ) from error
        raise
    books.read = len(ids)  # where a window of one token ends the text, it is read and there is nothing to score
    return books.result(lens.layer_count, length)


def window_length(model: "PreTrainedModel", asked: int | None = None) -> int:
    """Tokens in each window: as asked, else the model's context, at most LONGEST_WINDOW.

    Raises:
        UsageError: fewer than two, of which none would be scored, or more than the context holds.
    """
    context = context_length(model)
    if asked is None:
        return min(context or LONGEST_WINDOW, LONGEST_WINDOW)
    if asked < 2:
        raise UsageError(f"The window is {asked} tokens; it must be at least 2, since its first is not predicted.")
    if context is not None and asked > context:
        raise UsageError(f"The window is {asked} tokens and the model's context holds {context}; ask for fewer.")
    return asked


def _check_text(ids: Sequence[int], vocabulary: int, passage: range) -> None:
    """Refuse a text with nothing to predict, ids the model has no embedding for, and a passage outside the text."""
    if len(ids) < 2:
        said = "is one token" if len(ids) else "is empty"
        raise UsageError(f"The text {said}; give at least two tokens, the first being read but not predicted.")
    if not 0 <= min(ids) <= max(ids) < vocabulary:
        raise UsageError(f"A token id of the text is not in the model's vocabulary of {vocabulary} tokens.")
    if not passage or passage.step != 1 or not 0 <= passage.start < len(ids):
        raise UsageError(
            f"The passage begins at token {passage.start + 1:,} and the text has {len(ids):,}; "
            "choose one inside the text."
        )


def _read_windows(lens: Lens, ids: Sequence[int], layers: list[int], length: int) -> Iterator[tuple[int, torch.Tensor]]:
    """(position of the first token predicted, hidden [S, R, D] of the positions before S tokens), S few at a time.

    The lens is checked on the first tokens, against the logits that the model itself gives after them.
    """
    at_once = max(1, _LOGITS_AT_ONCE // (len(layers) * vocabulary_size(lens.model)))
    check_on(lens, ids)
    with block_outputs(lens, slice(None)) as outputs:
        for start in range(0, len(ids) - 1, length):
            piece = list(ids[start : start + length])
            lens.base(input_ids=torch.tensor([piece], device=device_of(lens.model)), use_cache=False)
            for first in range(0, len(piece) - 1, at_once):
                last = min(first + at_once, len(piece) - 1)
                few = {layer: outputs[layer][0, first:last] for layer in {*layers, lens.layer_count}}
                rows = stacked(few, layers).unflatten(0, (len(layers), -1))  # [R, S, D]
                yield start + first + 1, rows.transpose(0, 1)


class TextSums:
    """The sums over the tokens scored so far, and the top tokens of the passage."""

    def __init__(self, ids: Sequence[int], layers: list[int], passage: range) -> None:
        self.ids, self.layers = ids, layers
        self.passage = range(passage.start, min(passage.stop, len(ids)))
        self.tops: dict[int, list[int]] = {}  # position -> [R]
        self.sums = torch.zeros(5, len(layers), dtype=torch.float64)
        self.scored = 0
        self.read = 0

    def add(self, start: int, logits: torch.Tensor) -> None:
        """Take logits [S, R, V], the predictions of S tokens of the text from position `start` on."""
        end = start + len(logits)
        likeliest = logits.argmax(-1)  # [S, R]; lowest id on ties
        own = torch.tensor(list(self.ids[start:end]), device=logits.device)[:, None].expand_as(likeliest)
        rows = distributions(logits, likeliest)
        columns = [
            likeliest == likeliest[:, -1:],
            likeliest == own,
            rows.entropy_bits(),
            rows.kl_to_final_bits(),
            rows.logprob_nats(own),
        ]
        self.sums += torch.stack([column.float() for column in columns]).cpu().double().sum(1)
        self.scored += len(logits)
        self.read = end
        for position in range(max(start, self.passage.start), min(end, self.passage.stop)):
            self.tops[position] = likeliest[position - start].tolist()

    def result(self, layer_count: int, window: int) -> TextMeasures:
        """The means, and the passage as far as it was read."""
        means = (self.sums / self.scored).T.tolist()  # [R][5]
        summaries = tuple(LayerSummary(layer, *row) for layer, row in zip(self.layers, means, strict=True))
        return TextMeasures(layer_count, len(self.ids), self.scored, window, summaries, self._passage())

    def _passage(self) -> Passage:
        shown = range(self.passage.start, min(self.passage.stop, self.read))
        nothing: list[int | None] = [None] * len(self.layers)
        by_position = [self.tops.get(position, nothing) for position in shown]  # [S][R]
        rows = [
            LayerPredictions(layer, tuple(tops[row] for tops in by_position)) for row, layer in enumerate(self.layers)
        ]
        return Passage(self.passage.start + 1, tuple(self.ids[position] for position in shown), tuple(rows))


_LOGIT_ROWS = 256


def layer_choices(model: "PreTrainedModel", prompt_ids: Sequence[int], ids: Sequence[int]) -> tuple[LensRow, ...]:
    """For layers 1 … L: the likeliest next token before each of the T tokens of a text, [T] a layer.

    Raises:
        LayerDecodingError: the lens does not reproduce the model's own logits.
    """
    lens = find_lens(model)
    read = [*prompt_ids, *ids[:-1]]
    check_on(lens, read)
    with torch.inference_mode(), block_outputs(lens, slice(-len(ids), None)) as outputs:
        lens.base(input_ids=torch.tensor([read], device=device_of(model)), use_cache=False)
        # [L · T, D]
        hidden = stacked({layer: rows[0] for layer, rows in outputs.items()}, range(1, lens.layer_count + 1))
        tops = torch.cat([lens.logits(rows).argmax(1) for rows in hidden.split(_LOGIT_ROWS)])
    table = tops.view(lens.layer_count, len(ids)).tolist()
    return tuple(LensRow(layer, tuple(row)) for layer, row in enumerate(table, 1))
