"""Greedy decoding of every layer at once, for about the price of an ordinary decode.

How hidden states come about is in `contexts`. Here they go through the lens, all rows in one product; each row's
likeliest token is kept, and measured if that is wanted.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, get_args

import torch

from layer_decoding.decoding.contexts import HiddenStates, OwnTexts, SharedText
from layer_decoding.decoding.steps import Steps
from layer_decoding.decoding.watching import OnStep, keeping
from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.lens import find_lens
from layer_decoding.lens.measures import measure
from layer_decoding.lens.quick import with_quick_twins
from layer_decoding.models.generation import end_ids
from layer_decoding.models.sizes import check_ids, check_lengths, select_cuts, select_layers
from layer_decoding.results.greedy import Context, LayerDecoding
from layer_decoding.results.measures import fields

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNWATCHED_STEPS = 16  # on a GPU, where nobody is told of each: few enough to stop soon after the end of a text


def decode_layers(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    context: Context = "shared",
    layers: Sequence[Layer] | None = None,
    measures: bool = True,
    candidates: int = 5,
    track: Sequence[int] = (),
    on_step: OnStep | None = None,
    lens: FittedLens | None = None,
) -> LayerDecoding:
    """Greedy text of every layer, and how sure each was, token by token.

    Args:
        prompt_ids: P token ids, at least one.
        context: "shared": every layer predicts the next token of the text the last layer writes;
            "own": every layer continues its own text.
        layers: block numbers to return (0 is the embeddings), None for 1 … L; the last is always there. In shared
            context half steps too, `HalfStep(6)` being the state inside block 6 between attention and MLP.
        measures: those of `results.measures` and candidates, each [T] a row; False for tokens only.
        candidates: K, how many of the likeliest next tokens to keep at each step.
        track: N token ids whose probability and rank to keep at each step.
        on_step: called as on_step(step, {layer: id}) when a step's tokens are known, step counting from 1.
        lens: one that was fitted to the model; None for the plain one.

    Raises:
        UsageError: lengths, layers, context or ids out of range; a layer that the lens has no map for.
        LayerDecodingError: the lens does not reproduce the model's own logits, or belongs to another model; or half
            steps miss its states, or some are not finite.
        Interrupted: Ctrl-C; carries the steps that were finished.
    """
    found = find_lens(with_quick_twins(model), lens)
    prompt = list(prompt_ids)
    check_lengths(model, prompt, max_new_tokens)
    if context not in get_args(Context):
        raise UsageError(f"The context is {context!r}; it must be 'shared' or 'own'.")
    if candidates < 1:
        raise UsageError(f"The number of candidates is {candidates}; it must be at least 1.")
    check_ids(model, [*prompt, *track])
    shown: list[Layer] = [*(select_cuts if context == "own" else select_layers)(layers, found.layer_count)]
    decoded = shown if context == "own" else sorted({*shown, *range(1, found.layer_count + 1)})
    found.check_layers(decoded)
    steps = Steps(context, shown, decoded, frozenset(end_ids(model)))
    measured = fields(shared=context == "shared")

    def result() -> LayerDecoding | None:
        steps.look()
        if not steps.count:
            return None
        return LayerDecoding(
            context,
            found.layer_count,
            tuple(prompt),
            max_new_tokens,
            steps.rows(),
            steps.settles_at(),
            tuple(track),
            lens=found.name,
        )

    with keeping(result), torch.inference_mode(), ExitStack() as stack:
        states: HiddenStates = (SharedText if context == "shared" else OwnTexts)(found, decoded, stack)
        hidden = states.start(prompt)
        shown_rows = torch.tensor([decoded.index(layer) for layer in shown], device=hidden.device)
        at_once = steps_at_once(hidden.device, watched=on_step is not None)
        for step in range(1, max_new_tokens + 1):
            logits = found.logits(hidden, decoded)  # [R, V]
            numbers = None
            if measures or track:
                rows = logits if shown == decoded else logits[shown_rows]
                numbers = measure(rows, measured, candidates=candidates, track=track)
            ids = steps.take(logits, numbers)
            if step % at_once == 0:
                steps.look()
            if on_step is not None:
                on_step(step, steps.newest())
            if steps.finished or step == max_new_tokens:
                break
            hidden = states.advance(ids)
    decoding = result()
    assert decoding is not None  # at least one step was asked for
    return decoding


def steps_at_once(device: torch.device, *, watched: bool) -> int:
    """How many steps to take before their tokens are looked at: on a GPU that is to wait for it."""
    return _UNWATCHED_STEPS if device.type == "cuda" and not watched else 1
