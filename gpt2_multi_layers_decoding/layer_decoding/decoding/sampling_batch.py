"""A batch of texts that begin with the same prompt, in which no row depends on how many others there are.

Float32 does not give that by itself: rounding moves every boundary of the cumulative distribution by about 1e-6, and
where thousands of tokens are no longer than that, one step in hundreds would turn out differently in a larger batch.
What makes a row's numbers depend on its neighbours is the kernel that a product's size selects, and what that does at
the edge. So on a CPU every pass takes ROWS texts, filled up where there are fewer, and attention is the plain product:
a text stands in the same place of a product of the same size whatever the number of texts. That is exact, bit for bit;
a product of fewer rows takes its place only where it has been seen to give the same bits (`lens/quick.py`). On a
GPU, where passes cost the same whatever they take, all texts go together and are as near as its library allows.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.cache import NOT_READ_ON, check_copyable, new_cache, read_on, refusing, repeat_rows
from layer_decoding.lens.quick import with_quick_twins
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import cache_bytes, free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache


ROWS = 8  # texts a pass on a CPU: eight cost little more than four, and the attention of all is computed for one


class Reading:
    """A prompt [P] that a model has read: its cache, and the logits float32 [1, V] of the token after it."""

    def __init__(self, model: "PreTrainedModel", prompt: list[int]) -> None:
        check_copyable(model)
        self.plain, self.model = model, with_quick_twins(model)
        self.filled: dict[int, PreTrainedModel] = {}  # by the number of texts in a pass that is filled up
        self.texts = torch.tensor([prompt], device=device_of(model))
        self.cache = new_cache(model)
        with refusing(model, NOT_READ_ON):
            self.logits = _next_logits(self.model, self.texts, self.cache)

    def model_for(self, texts: int, rows: int) -> "PreTrainedModel":
        """The model for a pass of so many rows, of which the first are texts and the others repeat the first."""
        if texts == rows:
            return self.model
        if texts not in self.filled:
            self.filled[texts] = with_quick_twins(self.plain, distinct=texts)
        return self.filled[texts]


class Batch:
    """B texts that begin with the same prompt; `logits` float32 [B, V] are those of the next token of each.

    `rows` is how many are read on in one pass on a CPU.
    """

    def __init__(self, reading: Reading, texts: int, rows: int = ROWS) -> None:
        rows = rows if reading.texts.device.type == "cpu" else texts
        self.passes = [_Pass(reading, min(rows, texts - first), rows) for first in range(0, texts, rows)]
        self.logits = reading.logits.expand(texts, -1)

    def advance(self, ids: list[int]) -> None:
        """Append ids [B] to the texts."""
        rest = iter(ids)
        self.logits = torch.cat([each.advance(list(islice(rest, each.rows))) for each in self.passes])


class _Pass:
    """The texts that are read on together, always as many rows: what is too few is filled up with the first again."""

    def __init__(self, reading: Reading, texts: int, rows: int) -> None:
        self.model, self.rows = reading.model_for(texts, rows), rows
        self.texts = reading.texts.repeat(rows, 1)
        self.cache = copy.deepcopy(reading.cache)
        if self.cache is not None:
            repeat_rows(self.cache, rows)

    def advance(self, ids: list[int]) -> torch.Tensor:
        """Append ids [B] to the texts, and to what fills the pass up what the first one gets: logits [B, V]."""
        filled = ids + ids[:1] * (self.rows - len(ids))
        column = torch.tensor(filled, device=self.texts.device)[:, None]
        if self.cache is None:  # nothing to read on from
            self.texts = column = torch.cat([self.texts, column], 1)
        return _next_logits(self.model, column, self.cache)[: len(ids)]


def _next_logits(model: Any, ids: torch.Tensor, cache: "DynamicCache | None") -> torch.Tensor:
    """The logits float32 [B, V] after ids [B, S], which follow what is in the cache."""
    logits: torch.Tensor = read_on(model, ids, cache, logits_to_keep=1).logits[:, -1].float()
    return logits


@contextmanager
def batch_invariant_attention() -> Iterator[None]:
    """While open, attention is the plain product: the fused CPU kernel rounds by where in memory a row lies."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def check_memory(model: "PreTrainedModel", samples: int, tokens: int) -> None:
    """Refuse a batch whose cache is more than the memory that is free: too large a one is killed without a word."""
    needed, free = cache_bytes(model, samples, tokens), free_bytes(model)
    if free is not None and needed > free:
        raise LayerDecodingError(
            f"The memory on {device_of(model)} is too small for {samples} samples of {tokens} tokens: the cache would "
            f"need {needed / 1e9:,.1f} GB of {free / 1e9:,.1f}; use fewer samples or fewer new tokens.",
            settings=["num_samples", "max_new_tokens"],
        )
