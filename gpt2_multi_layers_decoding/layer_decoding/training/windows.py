"""Documents as ids, in windows of the context's length: trained on in a seeded order, or scored."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from layer_decoding.errors import UsageError
from layer_decoding.training.recipe import derived_seed


def encode_documents(tokenizer: Any, documents: Sequence[str]) -> torch.Tensor:
    """All documents as one row of ids, each after an end-of-text: int64 [N]."""
    rows = tokenizer(list(documents), add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for row in rows for token in (tokenizer.eos_token_id, *row)])


class Windows:
    """The training ids cut into windows of context + 1, in an order of its own each epoch.

    Batch n depends on the seed and n alone: a resumed run sees what an unbroken one would have seen. Batches are
    made where the ids are: those on a GPU wait for no copy.
    """

    def __init__(self, ids: torch.Tensor, context: int, batch: int, seed: int) -> None:
        self.ids, self.context, self.batch_size, self.seed = ids, context, batch, seed
        self.per_epoch = (len(ids) - 1 - context) // context // batch
        if self.per_epoch < 1:
            raise UsageError(
                f"The text has {len(ids)} training tokens and one batch takes {context * (batch + 1) + 1}; "
                "give more text, or a smaller batch or context.",
                settings=("batch", "context"),
            )
        self.epoch = -1
        self.offsets = torch.arange(context + 1, device=ids.device)

    def __getitem__(self, step: int) -> torch.Tensor:
        """Batch `step`: int64 [batch, context + 1]."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self._shuffle(epoch)
        starts = self.starts[index * self.batch_size : (index + 1) * self.batch_size]
        return self.ids[starts[:, None] + self.offsets]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch `step` as ids to read and the ids that follow each: int64 [batch, context] twice."""
        windows = self[step]
        return windows[:, :-1], windows[:, 1:]

    def _shuffle(self, epoch: int) -> None:
        """Cut the ids at other places than the last epoch did, and put the windows in a new order."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        shift = int(torch.randint(self.context, (1,), generator=generator))
        count = (len(self.ids) - 1 - shift) // self.context
        starts = shift + self.context * torch.randperm(count, generator=generator)
        self.starts = starts.to(self.ids.device)
        self.epoch = epoch


def bits_per_byte(model: Any, ids: torch.Tensor, byte_count: int, windows: int | None = None) -> tuple[float, float]:
    """Held-out loss over disjoint windows of the context's length: (nats per token, bits per byte).

    Each window scores all its tokens but the first; windows overlap by that one. `windows` takes that many,
    evenly spaced. Bits per byte compare models of different tokenizers, which a loss per token does not.
    """
    context = model.config.n_positions
    starts = list(range(0, len(ids) - 1, context))
    if windows is not None and windows < len(starts):
        starts = [starts[i * len(starts) // windows] for i in range(windows)]
    nats, tokens = 0.0, 0
    with torch.inference_mode():
        for start in starts:
            window = ids[start : start + context + 1].to(model.device)
            logits = model(window[None, :-1]).logits[0].float()
            nats += cross_entropy(logits, window[1:], reduction="sum").item()
            tokens += len(window) - 1
    return nats / tokens, nats / tokens / math.log(2) * len(ids) / byte_count
