"""Every layer along some tokens of a text: what each says in the place of every one, from one pass over the text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.decoding.steps import Steps
from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.lens.cache import refusing
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.lens import NOT_BY_LAYER, Lens, check_on, find_lens
from layer_decoding.lens.measures import measure, top_tokens
from layer_decoding.lens.windows import (
    check_text,
    explaining_memory,
    lens_logits,
    positions_at_once,
    rows_of,
    window_length,
)
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import check_ids, context_length, select_layers
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import fields
from layer_decoding.results.text import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        hidden = rows_of({layer: states[0] for layer, states in outputs.items()}, layers)  # [T, R, D]
        for few in hidden.split(positions_at_once(lens, layers)):
            yield from lens_logits(lens, few, layers)


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
    check_text(model, ids)
    _check_passage(ids, passage)
    shown = range(passage.start, min(passage.stop, len(ids)))
    stretches = []
    with explaining_memory(length):
        for start in range(shown.start // length * length, shown.stop, length):
            first, stop = max(shown.start, start + 1), min(shown.stop, start + length)
            if first < stop:
                along = range(first - start, stop - start)
                read = read_layers(model, list(ids[start:stop]), along, layers=layers, measures=measures, lens=lens)
                stretches.append((first - shown.start, read))
    return Passage(shown.start + 1, tuple(ids[shown.start : shown.stop]), tuple(stretches))


def _check_passage(ids: Sequence[int], passage: range) -> None:
    """Refuse a passage outside the text."""
    if not passage or passage.step != 1 or not 0 <= passage.start < len(ids):
        raise UsageError(
            f"The passage begins at token {passage.start + 1:,} and the text has {len(ids):,}; "
            "choose one inside the text."
        )
