"""A given text through the lens: what every layer predicts for each of its tokens, and how it does on average.

Teacher-forced: the text is read in disjoint windows, all positions of a window in one pass. The block outputs of
a window go through the lens a few positions at a time, so that nothing of size layers × positions × vocabulary is
ever there. Of a whole text only sums are kept: memory does not grow with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from layer_decoding.decoding.steps import Steps
from layer_decoding.decoding.watching import OnStep, keeping
from layer_decoding.errors import LayerDecodingError, UsageError, is_out_of_memory
from layer_decoding.layers import Layer
from layer_decoding.lens.cache import refusing
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.lens import NOT_BY_LAYER, Lens, check_on, find_lens
from layer_decoding.lens.measures import Distributions, measure, top_tokens
from layer_decoding.lens.windows import lens_logits, positions_at_once, read_windows, rows_of
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import check_ids, context_length, select_layers, vocabulary_size
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import averaged, fields
from layer_decoding.results.text import LayerSummary, Passage, TextMeasures

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST_WINDOW = 2048  # unless asked for: attention over the 100,000 tokens that some models allow is not affordable
_LEAST_LOG = -745.0  # of a mean probability: about the least that float64 holds


# ---------------------------------------------------------------- every layer along some tokens


def read_layers(
    model: "PreTrainedModel",
    ids: Sequence[int],
    positions: range,
    *,
    layers: Sequence[Layer] | None = None,
    measures: bool = True,
    candidates: int = 5,
    track: Sequence[int] = (),
    lens: FittedLens | None = None,
) -> LayerDecoding:
    """What every layer says in the place of some tokens of a text, having read all before each; one pass.

    Args:
        ids: the text's tokens, read from the first to the one before the last position.
        positions: T neighbouring places in the text, counted from 0; before the first something must stand.
        layers, measures, candidates, track, lens: as for `decode_layers`.

    Raises:
        UsageError: positions outside the text, more tokens than the context holds, layers or ids out of range; a
            layer that the lens has no map for.
        LayerDecodingError: the lens does not reproduce the model's own logits, or belongs to another model.
    """
    found = find_lens(model, lens)
    shown = select_layers(layers, found.layer_count)
    _check_positions(model, ids, positions, track)
    decoded = sorted({*shown, *range(1, found.layer_count + 1)})
    found.check_layers(decoded)
    shown_rows = [decoded.index(layer) for layer in shown]
    steps = Steps("shared", shown, decoded, ends=frozenset())
    with torch.inference_mode():
        for token, logits in zip(ids[positions.start :], _logits_along(found, ids, positions, decoded), strict=False):
            numbers = None
            if measures or track:
                numbers = measure(
                    logits[shown_rows], fields(shared=True), candidates=candidates, track=track, text_id=token
                )
            steps.add(top_tokens(logits).tolist(), numbers)
    prompt, text = tuple(ids[: positions.start]), tuple(ids[positions.start : positions.stop])
    rows, settles_at = steps.rows(), steps.settles_at()
    return LayerDecoding(
        "shared", found.layer_count, prompt, len(text), rows, settles_at, tuple(track), text, lens=found.name
    )


def track_step(
    model: "PreTrainedModel",
    decoding: LayerDecoding,
    step: int,
    track: Sequence[int] = (),
    *,
    lens: FittedLens | None = None,
) -> LayerDecoding:
    """One step of a decoding, from 1, with tokens tracked: those named, else those on top at any layer and the text's.

    Which are on top is known only after the step, so that the text up to it is read once more, in one pass.
    """
    ids = [*decoding.prompt_ids, *decoding.text_ids[:step]]
    layers = [row.layer for row in decoding.rows]
    place, tokens = range(len(ids) - 1, len(ids)), track or decoding.leaders(step)
    return read_layers(model, ids, place, layers=layers, track=tokens, lens=lens)


def _check_positions(model: "PreTrainedModel", ids: Sequence[int], positions: range, track: Sequence[int]) -> None:
    if not positions or positions.step != 1 or not 1 <= positions.start < positions.stop <= len(ids):
        raise UsageError(
            f"The positions {positions.start} to {positions.stop - 1} are not in a text of {len(ids)} tokens, counted"
            " from 0, with something before the first."
        )
    context = context_length(model)
    if context is not None and positions.stop - 1 > context:
        raise UsageError(
            f"Up to position {positions.stop - 1} there are more tokens than the {context} of the model's context; give"
            " a shorter text."
        )
    check_ids(model, [*ids[: positions.stop], *track])


def _logits_along(lens: Lens, ids: Sequence[int], positions: range, layers: list[Layer]) -> Iterator[torch.Tensor]:
    """The logits [R, V] of the layers in the place of each position, from one pass over the text.

    The pass asks for no logits: a model that is asked for a few may read the other positions by some blocks only.
    """
    read = torch.tensor([list(ids[: positions.stop - 1])], device=device_of(lens.model))
    check_on(lens, ids[: positions.stop - 1])
    with layer_outputs(lens, layers, slice(positions.start - 1, None)) as outputs:
        with refusing(lens.model, NOT_BY_LAYER):
            lens.blocks.base(input_ids=read, use_cache=False)
        hidden = rows_of(outputs, layers)  # [T, R, D]
        for few in hidden.split(positions_at_once(lens, layers)):
            yield from lens_logits(lens, few, layers)


# ---------------------------------------------------------------- a whole text


def read_passage(
    model: "PreTrainedModel",
    ids: Sequence[int],
    passage: range = range(40),
    *,
    layers: Sequence[Layer] | None = None,
    window: int | None = None,
    measures: bool = True,
    lens: FittedLens | None = None,
) -> Passage:
    """Neighbouring tokens of a text, each window's part of them read along by every layer.

    Args:
        passage: places in the text, counted from 0; what lies past its end is left out.
        layers, window, lens: as for `measure_text`.

    Raises:
        UsageError: as `measure_text`.
        LayerDecodingError: the lens does not reproduce the model's own logits; or not enough memory.
    """
    length = window_length(model, window)
    _check_text(ids, vocabulary_size(model), passage)
    shown = range(passage.start, min(passage.stop, len(ids)))
    stretches = []
    with _explaining_memory(length):
        for start in range(shown.start // length * length, shown.stop, length):
            first, stop = max(shown.start, start + 1), min(shown.stop, start + length)
            if first < stop:
                along = range(first - start, stop - start)
                read = read_layers(model, list(ids[start:stop]), along, layers=layers, measures=measures, lens=lens)
                stretches.append((first - shown.start, read))
    return Passage(shown.start + 1, tuple(ids[shown.start : shown.stop]), tuple(stretches))


def measure_text(
    model: "PreTrainedModel",
    ids: Sequence[int],
    *,
    layers: Sequence[Layer] | None = None,
    window: int | None = None,
    on_step: OnStep | None = None,
    lens: FittedLens | None = None,
    bias: bool = False,
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

    Raises:
        UsageError: a text of fewer than two tokens; layers, window or ids out of range; a layer without a map.
        LayerDecodingError: the lens does not reproduce the model's own logits, or is another model's; or not enough
            memory.
        Interrupted: Ctrl-C; carries the numbers of what was read.
    """
    found = find_lens(model, lens)
    shown = select_layers(layers, found.layer_count)
    found.check_layers(shown)
    length = window_length(model, window)
    _check_text(ids, vocabulary_size(model))
    sums = TextSums(ids, shown, bias)

    def result() -> TextMeasures | None:
        return sums.result(found, length) if sums.scored else None

    with keeping(result), _explaining_memory(length), torch.inference_mode():
        for start, hidden in read_windows(found, ids, shown, length, positions_at_once(found, shown)):
            sums.add(start, lens_logits(found, hidden, shown))
            if on_step is not None:
                on_step(sums.read, {})
    sums.read = len(ids)  # where a window of one token ends the text, it is read and there is nothing to score
    return sums.result(found, length)


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


def _check_text(ids: Sequence[int], vocabulary: int, passage: range = range(1)) -> None:
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


@contextmanager
def _explaining_memory(length: int) -> Iterator[None]:
    """Say in one sentence that a window does not fit into memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise LayerDecodingError(
            f"There is not enough memory to read {length:,} tokens at once; try a smaller window or model.",
            settings=["window", "model"],
        ) from error


class TextSums:
    """The sums over the tokens scored so far."""

    def __init__(self, ids: Sequence[int], layers: list[Layer], bias: bool = False) -> None:
        self.ids, self.layers = ids, layers
        self.predictions: torch.Tensor | float | None = 0.0 if bias else None  # [R, V], summed
        self.measures = averaged()
        self.sums = torch.zeros(2 + len(self.measures), len(layers), dtype=torch.float64)
        self.scored = 0
        self.read = 0

    def add(self, start: int, logits: torch.Tensor) -> None:
        """Take logits [S, R, V], the predictions of S tokens of the text from position `start` on."""
        end = start + len(logits)
        text = torch.tensor(list(self.ids[start:end]), device=logits.device)
        rows = Distributions(logits, text_ids=text)
        columns = [
            rows.likeliest == rows.likeliest[:, -1:],
            rows.likeliest == text[:, None],
            *(getattr(rows, measure.field)() for measure in self.measures),
        ]
        sums = torch.stack([column.float() for column in columns]).cpu().double().sum(1)
        check_finite(sums)
        self.sums += sums
        if self.predictions is not None:
            few = torch.einsum("srv,sr->rv", rows.weights, 1 / rows.totals)
            self.predictions = self.predictions + few.cpu().double()
        self.scored += len(logits)
        self.read = end

    def result(self, lens: Lens, window: int) -> TextMeasures:
        """The means so far."""
        means = (self.sums / self.scored).T.tolist()  # [R][2 + measures]
        names = [measure.field for measure in self.measures]
        summaries = tuple(
            LayerSummary(layer, agreeing, correct, dict(zip(names, others, strict=True)), bias)
            for layer, (agreeing, correct, *others), bias in zip(self.layers, means, self._biases(), strict=True)
        )
        return TextMeasures(lens.layer_count, len(self.ids), self.scored, self.read, window, summaries, lens=lens.name)

    def _biases(self) -> Sequence[float | None]:
        """KL(mean prediction of the last layer ‖ mean prediction of each) in bits: [R]."""
        if not isinstance(self.predictions, torch.Tensor):
            return [None] * len(self.layers)
        means = self.predictions / self.scored
        # A token that no row ever held likely adds nothing; one that only the last did would add infinity.
        return Distributions(means.log().clamp_min(_LEAST_LOG)).kl_to_final_bits().tolist()
