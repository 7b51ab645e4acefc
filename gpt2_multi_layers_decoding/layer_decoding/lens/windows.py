"""A text read in disjoint windows: the outputs of its blocks, position by position, ready for the lens.

All positions of a window are read in one pass; what the lens makes of them is as wide as the vocabulary, so it is given
a few positions at a time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from layer_decoding.errors import LayerDecodingError, UsageError, is_out_of_memory
from layer_decoding.layers import Layer
from layer_decoding.lens.blocks import stacked
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.lens import Lens
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import cache_bytes, context_length, free_bytes, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LONGEST_WINDOW = 2048  # unless asked for: attention over the 100,000 tokens that some models allow is not affordable

_TOKENS_ON_GPU = 2**14  # read in one pass
_CACHES_A_WINDOW = 8  # what a pass holds of a window, as a multiple of its keys and values: a generous guess
_LOGITS_ON_GPU = 2**28  # numbers, 1 GB in float32
_BYTES_A_LOGIT = 32  # of a few copies
_LOGITS_AT_ONCE = 2**23  # numbers, 34 MB in float32, of which a handful are there at a time: fewer make small products


def read_windows(
    lens: Lens,
    ids: Sequence[int],
    layers: list[Layer],
    length: int,
    at_once: int,
    starts: Sequence[int] | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens of the text [S], hidden [S, R, D] of the positions before them), at most `at_once` of them at a time.

    Windows begin at `starts`, None for all of them, and none but the last of the text is shorter than `length`. Whether
    the lens is right on this model is for the caller to check, once: it takes as long as a tenth of a window.
    """
    starts = range(0, len(ids) - 1, length) if starts is None else starts
    with layer_outputs(lens, layers, slice(0, -1)) as outputs:
        for some in _together(starts, length, len(ids), windows_at_once(lens, length)):
            read = torch.tensor([list(ids[start : start + length]) for start in some], device=device_of(lens.model))
            lens.blocks.base(input_ids=read, use_cache=False)
            text = read[:, 1:].flatten().to(outputs[max(outputs)].device)
            flat = {layer: hidden.flatten(0, 1) for layer, hidden in outputs.items()}
            for first in range(0, len(text), at_once):
                last = first + at_once
                few = {layer: hidden[first:last] for layer, hidden in flat.items()}
                yield text[first:last], rows_of(few, layers)


def _together(starts: Sequence[int], length: int, tokens: int, most: int) -> Iterator[Sequence[int]]:
    """The windows that are read in one pass: as many as may be, all of one length."""
    short = bool(starts) and starts[-1] + length > tokens
    whole = starts[: len(starts) - short]
    for first in range(0, len(whole), most):
        yield whole[first : first + most]
    if short:
        yield starts[-1:]


def rows_of(outputs: dict[Layer, torch.Tensor], layers: list[Layer]) -> torch.Tensor:
    """The outputs [S, D] of some layers, position by position: [S, R, D]."""
    last = max(outputs)
    few = {layer: outputs[layer] for layer in {*layers, last}}
    rows: torch.Tensor = stacked(few, layers).unflatten(0, (len(layers), -1))
    return rows.transpose(0, 1)


def lens_logits(lens: Lens, hidden: torch.Tensor, layers: list[Layer]) -> torch.Tensor:
    """The lens on hidden states [S, R, D]: [S, R, V]."""
    logits = lens.logits(hidden.flatten(0, 1), layers * len(hidden))
    return logits.view(len(hidden), len(layers), -1)


def positions_at_once(lens: Lens, layers: list[Layer]) -> int:
    """How many positions the lens is given at a time: on a GPU so many that it has something to do, if they fit."""
    numbers = _LOGITS_AT_ONCE
    if device_of(lens.model).type == "cuda":
        numbers = max(numbers, min(_LOGITS_ON_GPU, (free_bytes(lens.model) or 0) // _BYTES_A_LOGIT))
    return max(1, numbers // (len(layers) * vocabulary_size(lens.model)))


def windows_at_once(lens: Lens, length: int) -> int:
    """How many windows of so many tokens are read in one pass: on a CPU one is enough, on a GPU as many as fit."""
    if device_of(lens.model).type != "cuda":
        return 1
    bytes_a_window = cache_bytes(lens.model, 1, length) * _CACHES_A_WINDOW
    fitting = (free_bytes(lens.model) or 0) // 4 // max(1, bytes_a_window)
    return max(1, min(_TOKENS_ON_GPU // length, fitting))


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


def check_text(model: "PreTrainedModel", ids: Sequence[int]) -> None:
    """Refuse a text with nothing to predict, and ids that the model has no embedding for."""
    vocabulary = vocabulary_size(model)
    if len(ids) < 2:
        said = "is one token" if len(ids) else "is empty"
        raise UsageError(f"The text {said}; give at least two tokens, the first being read but not predicted.")
    if not 0 <= min(ids) <= max(ids) < vocabulary:
        raise UsageError(f"A token id of the text is not in the model's vocabulary of {vocabulary} tokens.")


@contextmanager
def explaining_memory(length: int) -> Iterator[None]:
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
