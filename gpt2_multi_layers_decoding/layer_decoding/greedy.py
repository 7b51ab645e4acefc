"""Greedy decoding of every layer at once, for about the price of an ordinary decode.

Shared context: one cached pass a token over the text the last layer writes; the output of every block goes
through the lens, all rows in one product. Own context: one cached batch a token, a row a layer, from which
row k leaves after block k, so that block k works on L - k + 1 rows.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, get_args

import torch

from layer_decoding.caching import (
    check_cached,
    check_copyable,
    check_separable,
    new_cache,
    read_on,
    refusing,
    repeat_rows,
)
from layer_decoding.devices import device_of
from layer_decoding.errors import UsageError
from layer_decoding.generation import end_ids
from layer_decoding.lens import Lens, block_outputs, check_lens, check_near, find_lens, stacked
from layer_decoding.limits import check_ids, check_lengths, select_layers
from layer_decoding.measures import measure
from layer_decoding.record import Record
from layer_decoding.results import Context, LayerDecoding
from layer_decoding.shrinking import leaving_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache

OnStep = Callable[[int, dict[int, int]], None]


class DecodingInterrupted(KeyboardInterrupt):
    """Ctrl-C while decoding; `result` holds the steps that were finished, None if there was none."""

    def __init__(self, result: LayerDecoding | None) -> None:
        super().__init__("decoding was interrupted")
        self.result = result


def decode_layers(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    *,
    context: Context = "shared",
    layers: Sequence[int] | None = None,
    measures: bool = True,
    candidates: int = 5,
    track: Sequence[int] = (),
    on_step: OnStep | None = None,
) -> LayerDecoding:
    """Greedy text of every layer, and how sure each was, token by token.

    Args:
        prompt_ids: P token ids, at least one.
        context: "shared": every layer predicts the next token of the text the last layer writes;
            "own": every layer continues its own text.
        layers: block numbers to return (0 is the embeddings), None for 1 … L; the last is always there.
        measures: log-probability, entropy, KL, rank and candidates, each [T] a row; False for tokens only.
        candidates: K, how many of the likeliest next tokens to keep at each step.
        track: N token ids whose probability and rank to keep at each step.
        on_step: called as on_step(step, {layer: id}) when a step's tokens are known, step counting from 1.

    Raises:
        UsageError: lengths, layers, context or ids out of range.
        LayerDecodingError: the lens does not reproduce the model's own logits.
        DecodingInterrupted: Ctrl-C; carries what was finished.
    """
    lens = find_lens(model)
    prompt = list(prompt_ids)
    check_lengths(model, prompt, max_new_tokens)
    if context not in get_args(Context):
        raise UsageError(f"The context is {context!r}; it must be 'shared' or 'own'.")
    if candidates < 1:
        raise UsageError(f"The number of candidates is {candidates}; it must be at least 1.")
    check_ids(model, [*prompt, *track])
    shown = select_layers(layers, lens.layer_count)
    decoded = shown if context == "own" else sorted({*shown, *range(1, lens.layer_count + 1)})
    record = Record(context, shown, decoded, frozenset(end_ids(model)))
    shown_rows = [decoded.index(layer) for layer in shown]

    def result() -> LayerDecoding:
        settles, rows = record.settles_at(), record.rows()
        return LayerDecoding(context, lens.layer_count, tuple(prompt), max_new_tokens, rows, settles, tuple(track))

    try:
        with torch.inference_mode(), ExitStack() as stack:
            path: _Path = (_SharedPath if context == "shared" else _OwnPath)(lens, decoded, stack)
            hidden = path.start(prompt)
            for step in range(1, max_new_tokens + 1):
                logits = lens.logits(hidden)  # [R, V]
                ids = logits.argmax(1)  # lowest id on ties
                numbers = None
                if measures or track:
                    rows = logits if shown == decoded else logits[shown_rows]
                    numbers = measure(rows, final=context == "shared", candidates=candidates, track=tuple(track))
                record.add(ids.tolist(), numbers)
                if on_step is not None:
                    on_step(step, record.newest())
                if record.finished or step == max_new_tokens:
                    break
                hidden = path.advance(ids)
    except KeyboardInterrupt:
        raise DecodingInterrupted(result() if record.steps else None) from None
    return result()


# ---------------------------------------------------------------- the two contexts


class _Path(Protocol):
    """How hidden states come about: for the prompt, then for each chosen token."""

    def start(self, prompt: list[int]) -> torch.Tensor: ...

    def advance(self, ids: torch.Tensor) -> torch.Tensor: ...


class _SharedPath:
    """One text, the last layer's: every block's output at its last position."""

    def __init__(self, lens: Lens, decoded: list[int], stack: ExitStack) -> None:
        self.lens, self.decoded = lens, decoded
        self.outputs = stack.enter_context(block_outputs(lens))

    def start(self, prompt: list[int]) -> torch.Tensor:
        """Read the prompt and check the lens on it: hidden [R, D]."""
        self.cache, hidden = read_prompt(self.lens, prompt, self.outputs)
        return stacked(hidden, self.decoded)

    def advance(self, ids: torch.Tensor) -> torch.Tensor:
        """Append the last layer's choice, ids [R][-1]: hidden [R, D]."""
        read_on(self.lens.base, ids[-1:, None], self.cache)
        return stacked(self.outputs, self.decoded)


class _OwnPath:
    """A text a layer, in one batch that grows smaller from block to block."""

    def __init__(self, lens: Lens, decoded: list[int], stack: ExitStack) -> None:
        check_copyable(lens.model)
        check_separable(lens.model)
        self.lens, self.decoded, self.stack = lens, decoded, stack
        self.left: dict[int, torch.Tensor] | None = None

    def start(self, prompt: list[int]) -> torch.Tensor:
        """Read the prompt once for all rows, then give each block's cache as many rows as will reach it."""
        with block_outputs(self.lens) as outputs:
            self.cache, hidden = read_prompt(self.lens, prompt, outputs)
        self.cache_of_last = copy.deepcopy(self.cache)
        for layer, block_cache in enumerate(self.cache.layers, 1):
            repeat_rows(block_cache, sum(row >= layer for row in self.decoded))
        return stacked(hidden, self.decoded)

    def advance(self, ids: torch.Tensor) -> torch.Tensor:
        """Append to every row its own choice, ids [R]: hidden [R, D]."""
        if self.left is None:
            return self._first_advance(ids)
        read_on(self.lens.base, ids[:, None], self.cache)
        return stacked(self.left, self.decoded)

    def _first_advance(self, ids: torch.Tensor) -> torch.Tensor:
        """A step whose last row, which has seen every cut, is compared with a step of the model alone.

        What blocks are given is cut by its shape. Were that wrong for some architecture, its numbers would be too.
        """
        with block_outputs(self.lens) as outputs:
            read_on(self.lens.base, ids[-1:, None], self.cache_of_last)
        theirs = self.lens.logits(outputs[self.lens.layer_count])
        del self.cache_of_last
        self.left = self.stack.enter_context(leaving_rows(self.lens, self.decoded))
        with refusing(self.lens.model, "give each layer a text of its own", "use --context shared"):
            hidden = self.advance(ids)
        check_near(self.lens, self.lens.logits(hidden[-1:]), theirs, "in a batch that grows smaller")
        return hidden


def read_prompt(
    lens: Lens, prompt: list[int], outputs: dict[int, torch.Tensor]
) -> tuple["DynamicCache", dict[int, torch.Tensor]]:
    """The prompt through the whole model, once: its cache, and hidden_0 … hidden_L at its last position, [1, D] each.

    The logits that the model itself gives for it are what the lens is checked against.
    """
    check_cached(lens.model)
    cache = new_cache(lens.model)
    assert cache is not None  # there are blocks, or the lens would not have found them
    input_ids = torch.tensor([prompt], device=device_of(lens.model))
    with refusing(lens.model, "be read layer by layer"):
        answer = read_on(lens.model, input_ids, cache, logits_to_keep=1)
        check_lens(lens, outputs[lens.layer_count], answer.logits[:, -1])
    return cache, dict(outputs)
