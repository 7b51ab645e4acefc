"""The blocks of a causal model: found in its own structure, and what each of them hands on.

`hidden_k` is the output of block k. It is read from the block itself: the last entry of transformers'
`hidden_states` is already normalised, and normalising it again moves its logits by up to 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.layers import Layer
from layer_decoding.models.sizes import layer_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Blocks:
    """A causal model taken apart: `modules[k - 1]` is block k, found at `path`; `base` is all but the head."""

    model: "PreTrainedModel"
    base: torch.nn.Module
    modules: torch.nn.ModuleList
    path: str
    in_tuple: bool = False  # whether they answer with a tuple; known once one has

    @property
    def count(self) -> int:
        """L."""
        return len(self.modules)


def find_blocks(model: "PreTrainedModel") -> Blocks:
    """Find the blocks of a model, and that it has a head above them.

    The blocks are the list of L modules that holds most of the parameters; no expert or head list within them does.

    Raises:
        LayerDecodingError: the model is not built as L blocks below a head.
    """
    count = layer_count(model)
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    }
    path = max(lists, default="", key=lambda place: sum(weights.numel() for weights in lists[place].parameters()))
    base, below, _ = path.partition(".")
    if not count or not below or model.get_output_embeddings() is None:
        name = type(model).__name__
        raise LayerDecodingError(
            f"The lens finds no list of {count} blocks and a head in {name}; use another model, such as mini.",
            settings=["model"],
        )
    return Blocks(model, model.get_submodule(base), lists[path], path)


@contextmanager
def block_outputs(blocks: Blocks, positions: int | slice = -1) -> Iterator[dict[Layer, torch.Tensor]]:
    """While open, every forward pass leaves the last position of hidden_0 … hidden_L here: {k: [B, D]}.

    `positions` asks for others: slice(None) for all S of a pass, {k: [B, S, D]}.

    Raises:
        LayerDecodingError: in the pass, where a block's output is no hidden state, or there are several of it.
    """
    outputs: dict[Layer, torch.Tensor] = {}

    def forget(*_: object) -> None:
        outputs.clear()

    def keep_embeddings(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        # A model may run its first block's hook again (shared blocks); the embeddings are what came first.
        outputs.setdefault(0, hidden_input(args, options)[:, positions])

    def keep(layer: int) -> Any:
        def hook(_module: torch.nn.Module, _args: object, output: Any) -> None:
            hidden = hidden_output(output)
            if layer in outputs or not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
                reason = "runs more than once a token" if layer in outputs else "hands on more than a hidden state"
                name = type(blocks.model).__name__
                raise LayerDecodingError(
                    f"Block {layer} of {name} {reason}; use another model, such as mini.", settings=["model"]
                )
            outputs[layer] = hidden[:, positions]
            blocks.in_tuple = isinstance(output, tuple | list)

        return hook

    handles = [
        blocks.base.register_forward_pre_hook(forget),
        blocks.modules[0].register_forward_pre_hook(keep_embeddings, with_kwargs=True),
        *(block.register_forward_hook(keep(layer)) for layer, block in enumerate(blocks.modules, 1)),
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def hidden_input(args: tuple[Any, ...], options: dict[str, Any]) -> torch.Tensor:
    """The hidden state [B, S, D] among what a block is called with."""
    hidden: torch.Tensor = args[0] if args else options["hidden_states"]
    return hidden


def hidden_output(output: Any) -> torch.Tensor:
    """The hidden state [B, S, D] in what a block answers: alone, or first of a tuple."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return hidden


def with_hidden(output: Any, hidden: torch.Tensor) -> Any:
    """What a block answers, with another hidden state in it."""
    return type(output)([hidden, *output[1:]]) if isinstance(output, tuple | list) else hidden


def stacked(outputs: Mapping[Layer, torch.Tensor], layers: Sequence[Layer]) -> torch.Tensor:
    """The outputs [B, D] of some layers as rows [R · B, D], on the device of the last one, where the head is."""
    device = outputs[max(outputs)].device
    return torch.cat([outputs[layer].to(device) for layer in layers])
