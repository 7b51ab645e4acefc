"""The logit lens: where a model keeps its blocks, final norm and head, and what a hidden state says.

    logits_k = unembed(final_norm(hidden_k))        (nostalgebraist, "interpreting GPT: the logit lens", 2020)

`hidden_k` is the output of block k. It is read from the block itself: the last entry of transformers'
`hidden_states` is already normalised, and normalising it again moves its logits by up to 1.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Lens:
    """A causal model taken apart: `blocks[k - 1]` is block k, `base` all but the head."""

    model: "PreTrainedModel"
    base: torch.nn.Module
    blocks_name: str
    final_norm: torch.nn.Module
    head: torch.nn.Linear

    @property
    def blocks(self) -> torch.nn.ModuleList:
        """The blocks, first to last: L of them."""
        blocks = self.base.get_submodule(self.blocks_name)
        assert isinstance(blocks, torch.nn.ModuleList)
        return blocks

    @property
    def layer_count(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The lens: next-token logits float32 [R, V] of block outputs [R, D], normalised here and only here."""
        return self.unembed(self.final_norm(hidden))

    def unembed(self, rows: torch.Tensor) -> torch.Tensor:
        """The head on normalised rows [R, D]: contiguous float32 logits [R, V].

        `(weight @ rows.T).T` reads the weight once for up to 8 rows at the price of one; between 9 and 15
        rows two such products are faster than one.
        """
        parts = rows.split(8) if 8 < len(rows) < 16 else (rows,)
        logits = torch.cat([torch.mm(self.head.weight, part.T).T for part in parts])
        if self.head.bias is not None:
            logits = logits + self.head.bias
        return logits.float().contiguous()


def find_lens(model: "PreTrainedModel") -> Lens:
    """Find blocks, final norm and head from the model's own structure.

    Raises:
        LayerDecodingError: the model is not built as blocks, a norm and a linear head.
    """
    base, head = model.base_model, model.get_output_embeddings()
    layer_count = model.config.num_hidden_layers
    block_lists = [
        name
        for name, module in base.named_children()
        if isinstance(module, torch.nn.ModuleList) and len(module) == layer_count
    ]
    norms = [module for module in base.children() if _is_norm(module, model.config.hidden_size)]
    if base is model or len(block_lists) != 1 or not norms or not isinstance(head, torch.nn.Linear):
        raise LayerDecodingError(
            f"The lens finds no {layer_count} blocks followed by a norm and a linear head in {type(model).__name__}; "
            "use a GPT-2 model, such as --model mini."
        )
    return Lens(model, base, block_lists[0], norms[-1], head)


def _is_norm(module: torch.nn.Module, width: int) -> bool:
    """Whether a module's one matrix-free weight spans the hidden width, as a layer norm's does."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and tuple(weight.shape) == (width,)


@contextmanager
def block_outputs(lens: Lens, positions: int | slice = -1) -> Iterator[dict[int, torch.Tensor]]:
    """While open, every forward pass leaves the last position of hidden_0 … hidden_L here: {k: [B, D]}.

    `positions` asks for others: slice(None) for all S of a pass, {k: [B, S, D]}.
    """
    outputs: dict[int, torch.Tensor] = {}

    def keep_embeddings(_: torch.nn.Module, args: tuple[Any, ...]) -> None:
        outputs[0] = args[0][:, positions]

    def keep(layer: int) -> Any:
        def hook(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> None:
            outputs[layer] = output[:, positions]

        return hook

    handles = [lens.blocks[0].register_forward_pre_hook(keep_embeddings)]
    handles += [block.register_forward_hook(keep(layer)) for layer, block in enumerate(lens.blocks, 1)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def check_lens(lens: Lens, hidden: torch.Tensor, logits: torch.Tensor) -> None:
    """Compare the lens on the last block's output [1, D] with the logits [1, V] that the model itself gave.

    Raises:
        LayerDecodingError: they differ by more than rounding, so no number of the lens could be trusted.
    """
    ours, theirs = lens.logits(hidden), logits.float()
    # float32 rounds sums of this length to about 1e-6 of their size; 16-bit types to a few units in the last place.
    relative = 1e-5 if logits.dtype == torch.float32 else 4 * torch.finfo(logits.dtype).eps
    if not torch.allclose(ours, theirs, rtol=relative, atol=1e-4):
        gap = (ours - theirs).abs().max().item()
        raise LayerDecodingError(
            f"The lens on the last layer misses the logits of {type(lens.model).__name__} by {gap:.2g}, "
            "so its numbers would be wrong for this model; use a GPT-2 model, such as --model mini."
        )


def check_lengths(model: "PreTrainedModel", prompt_ids: list[int], max_new_tokens: int) -> None:
    """Refuse an empty prompt, no new tokens, and more tokens than the model's context holds.

    Raises:
        UsageError: with the numbers and what to change.
    """
    if not prompt_ids:
        raise UsageError("The prompt is empty; give some text, or '<|endoftext|>' to let the model start by itself.")
    if max_new_tokens < 1:
        raise UsageError(f"The number of new tokens is {max_new_tokens}; it must be at least 1.")
    context = getattr(model.config, "max_position_embeddings", None)
    if context is None:  # positions without a table (ALiBi): any length
        return
    if len(prompt_ids) >= context:
        raise UsageError(
            f"The prompt has {len(prompt_ids)} tokens and the model's context holds {context}; "
            f"shorten it to at most {context - 1} tokens."
        )
    if len(prompt_ids) + max_new_tokens > context:
        raise UsageError(
            f"{len(prompt_ids)} prompt tokens and {max_new_tokens} new ones are more than the {context} of the "
            f"model's context; ask for at most {context - len(prompt_ids)} new tokens."
        )


def check_ids(ids: list[int], vocabulary: int) -> None:
    """Refuse ids that the model has no embedding for."""
    unknown = [token for token in ids if not 0 <= token < vocabulary]
    if unknown:
        raise UsageError(f"Token id {unknown[0]} is not in the model's vocabulary of {vocabulary} tokens.")


def select_layers(layers: Sequence[int] | None, layer_count: int) -> list[int]:
    """The rows to show: layers sorted, each once, the last always among them; None is all blocks.

    Raises:
        UsageError: a layer below 0 or above the model's last.
    """
    if layers is None:
        return list(range(1, layer_count + 1))
    beyond = sorted({layer for layer in layers if not 0 <= layer <= layer_count})
    if beyond:
        raise UsageError(
            f"Layer {', '.join(map(str, beyond))} is out of range; this model has layers 1 to {layer_count} "
            "(0 is the embeddings)."
        )
    return sorted({*layers, layer_count})
