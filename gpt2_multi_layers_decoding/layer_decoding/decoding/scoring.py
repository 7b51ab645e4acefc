"""How likely a model finds given texts: the log-probability of each of their tokens, from a plain forward pass.

Teacher-forced: the texts are read, not written, so all their tokens go through the model in one pass. Texts of one
prompt are a tree, of which every node is read once: each token attends to the ones it follows and stands at the
position it has in its own text. The hypotheses of a beam search share most of theirs.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.lens.cache import new_cache, read_on, takes_positions
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.quick import quick_head
from layer_decoding.lens.sharing import with_modules
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache


_LOGIT_ROWS = 256  # rows of the vocabulary's width that are there at once, whatever the length and number of texts
Ids = tuple[int, ...]


def token_logprobs(model: "PreTrainedModel", prompt_ids: Sequence[int], ids: Sequence[int]) -> list[float]:
    """The log-probability in nats of each token of one text: [T], each given the prompt and the tokens before it."""
    return texts_logprobs(model, prompt_ids, [ids])[0]


def texts_logprobs(
    model: "PreTrainedModel",
    prompt_ids: Sequence[int],
    texts: Sequence[Sequence[int]],
    cache: "DynamicCache | None" = None,
) -> list[list[float]]:
    """The log-probabilities in nats of the tokens of N texts, of any lengths, after one prompt of P tokens (P ≥ 1).

    The softmax is the model's own, unfiltered, in float32. `cache`: of `generate` after the same prompt, which is then
    not read again; it is used up.
    """
    prompt, rows = list(prompt_ids), [tuple(text) for text in texts]
    reader = with_modules(model, quick_head(model))
    with torch.inference_mode():
        if _takes_trees(model):
            found = _Tree(prompt, rows).score(reader, cache)
        else:
            found = [_Tree(prompt, [row]).score(reader)[0] for row in rows]
    check_finite(torch.tensor([nats for text in found for nats in text]))
    return found


def _takes_trees(model: "PreTrainedModel") -> bool:
    """Whether a model attends as a mask says and stands where it is told; others read text by text.

    Positions that follow from the mask (ALiBi), windows and recurrent states know only one sequence.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    config = text_config(model.config)
    windows = [
        name
        for name, value in vars(config).items()
        if ("window" in name or "chunk" in name) and type(value) is int and value > 0
    ]
    return (
        takes_positions(model)
        and config._attn_implementation in ("eager", "sdpa")
        and not windows
        and not getattr(config, "alibi", False)
        and all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    )


def _up_to(cache: "DynamicCache", tokens: int, device: torch.device) -> "DynamicCache":
    """A cache cut to its first tokens, and to the first row of its batch: all begin alike."""
    cache.crop(tokens - cache.get_seq_length())
    cache.batch_select_indices(torch.zeros(1, dtype=torch.long, device=device))
    return cache


class _Tree:
    """A prompt and the texts that follow it as one sequence of S tokens, each text's own ones after its parent's.

    The last token of a text is asked for and need not be read.
    """

    def __init__(self, prompt: list[int], texts: list[Ids]) -> None:
        self.first = len(prompt) - 1  # from here on logits are asked for
        self.texts = texts
        self.tokens, self.positions = list(prompt), list(range(len(prompt)))
        self.parents = list(range(-1, len(prompt) - 1))
        self.row_of: dict[Ids, int] = {(): self.first}  # beginning of a text -> where its last token is
        for text in texts:
            for length in range(1, len(text)):
                self._add(text[:length])
        # (row of what comes before, token) of everything that is asked for
        self.asked = sorted({(self.row_of[text[:at]], text[at]) for text in texts for at in range(len(text))})

    def _add(self, beginning: Ids) -> None:
        if beginning not in self.row_of:
            self.row_of[beginning] = len(self.tokens)
            self.tokens.append(beginning[-1])
            self.positions.append(self.first + len(beginning))
            self.parents.append(self.row_of[beginning[:-1]])

    @property
    def branches(self) -> bool:
        """Whether any token does not follow the one read before it."""
        return self.parents != list(range(-1, len(self.tokens) - 1))

    def score(self, model: "PreTrainedModel", cache: "DynamicCache | None" = None) -> list[list[float]]:
        """Log-probabilities of every text's tokens: [N][T of that text]."""
        found: dict[tuple[int, int], float] = {}
        for start, logits in self._read(model, cache) if self.asked else ():
            here = [(row, token) for row, token in self.asked if start <= row < start + len(logits)]
            rows, tokens = [row - start for row, _ in here], [token for _, token in here]
            found.update(zip(here, logits.float().log_softmax(-1)[rows, tokens].tolist(), strict=True))
        return [[found[self.row_of[text[:at]], text[at]] for at in range(len(text))] for text in self.texts]

    def _read(self, model: "PreTrainedModel", cache: "DynamicCache | None") -> Iterator[tuple[int, torch.Tensor]]:
        """The logits [rows, V] after the prompt and after every node, each piece with the row at which it starts.

        One piece, unless there are so many rows that their logits would crowd the memory.
        """
        read = 0
        if cache is not None and self.first > 0:
            cache, read = _up_to(cache, self.first, device_of(model)), self.first
        else:
            cache = new_cache(model)
        tokens = torch.tensor([self.tokens], device=device_of(model))
        size = len(self.tokens) if cache is None else _LOGIT_ROWS  # without blocks there is nothing to keep a cache of
        for start in range(self.first, len(self.tokens), size):
            until = min(start + size, len(self.tokens))
            options: dict[str, Any] = self._as_seen(model, read, until) if self.branches else {}
            ids = tokens[:, read:until]
            logits = read_on(model, ids, cache, logits_to_keep=until - start, **options).logits[0]
            yield start, logits[start - until :]
            read = until

    def _as_seen(self, model: "PreTrainedModel", read: int, until: int) -> dict[str, torch.Tensor]:
        """Positions [1, rows] and attention bias [1, 1, rows, until]: 0 for a token's ancestors and itself."""
        seen = torch.zeros(until, until, dtype=torch.bool)
        for row, parent in enumerate(self.parents[:until]):
            if parent >= 0:
                seen[row] = seen[parent]
            seen[row, row] = True
        bias = torch.zeros(until - read, until, dtype=model.dtype)
        bias = bias.masked_fill(~seen[read:], torch.finfo(model.dtype).min)
        positions = torch.tensor([self.positions[read:until]], device=device_of(model))
        return {"position_ids": positions, "attention_mask": bias[None, None].to(device_of(model))}
