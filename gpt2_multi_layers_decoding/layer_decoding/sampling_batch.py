"""A batch of texts that begin with the same prompt, in which no row depends on how many others there are.

Float32 does not give that by itself: rounding moves every boundary of the cumulative distribution by about 1e-6, and
where thousands of tokens are no longer than that, one step in hundreds would turn out differently in a larger batch.
What makes a row's numbers depend on its neighbours is the kernel that the batch's size selects, so every size runs
the same ones: batches are filled up to a multiple of BLOCK rows, the head takes at most HEAD_ROWS at once, and
attention is the plain product. On a CPU that is exact, bit for bit; on a GPU as near as its library allows.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens import Lens, check_lens
from layer_decoding.memory import cache_bytes, free_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache

BLOCK = 4  # rows; matrix products of fewer take other kernels
HEAD_ROWS = 8  # more are another kernel again, and logits of a large vocabulary take much memory


def full_batch(texts: int) -> int:
    """How many rows a batch of that many texts has."""
    return -(-texts // BLOCK) * BLOCK


class Batch:
    """B texts that begin with the same prompt; `hidden` [B, D] is what the final norm is given of each."""

    def __init__(
        self, lens: Lens, prompt: list[int], cache: "DynamicCache | None", hidden: torch.Tensor, rows: int
    ) -> None:
        self.lens = lens
        self.texts = torch.tensor([prompt] * rows, device=lens.model.device)
        self.cache = copy.deepcopy(cache)
        if self.cache is not None:
            self.cache.batch_repeat_interleave(rows)
        self.hidden = hidden.expand(rows, -1).contiguous()

    def advance(self, ids: list[int]) -> None:
        """Append ids [R] to the first R texts; the others, which only fill the batch up, follow the first."""
        filled = ids + ids[:1] * (len(self.texts) - len(ids))
        column = torch.tensor(filled, device=self.texts.device)[:, None]
        with _final_hidden(self.lens) as hidden:
            if self.cache is not None:
                self.lens.base(input_ids=column, past_key_values=self.cache, use_cache=True)
            else:
                self.texts = torch.cat([self.texts, column], 1)
                self.lens.base(input_ids=self.texts, use_cache=False)
        self.hidden = hidden[0]

    def logits(self, texts: int) -> Iterator[torch.Tensor]:
        """The next-token logits of the first `texts` rows, at most HEAD_ROWS at a time: float32 [R, V] each."""
        for start in range(0, texts, HEAD_ROWS):
            yield self.lens.logits(self.hidden[start : start + HEAD_ROWS])[: texts - start]


def read_prompt(lens: Lens, prompt: list[int]) -> tuple["DynamicCache | None", torch.Tensor]:
    """Pass the prompt through the whole model: its cache, and hidden [1, D] at its last position.

    The logits that the model itself gives are what the lens is checked against. A model cut off before its first
    block has no cache to take positions from: None.
    """
    from transformers.cache_utils import DynamicCache

    cache = DynamicCache(config=lens.model.config) if lens.layer_count else None
    input_ids = torch.tensor([prompt], device=lens.model.device)
    model: Any = lens.model
    with _final_hidden(lens) as hidden:
        answer = model(input_ids=input_ids, past_key_values=cache, use_cache=cache is not None, logits_to_keep=1)
    check_lens(lens, hidden[0], answer.logits[:, -1])
    return cache, hidden[0]


@contextmanager
def _final_hidden(lens: Lens) -> Iterator[list[torch.Tensor]]:
    """While open, a forward pass leaves here what the final norm is given at the last position: [hidden [B, D]]."""
    kept: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, args: tuple[Any, ...]) -> None:
        kept[:] = [args[0][:, -1]]

    handle = lens.final_norm.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


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
            f"The memory on {model.device} is too small for {samples} samples of {tokens} tokens: the cache would "
            f"need {needed / 1e9:,.1f} GB of {free / 1e9:,.1f}; use fewer --num-samples or --max-new-tokens."
        )
