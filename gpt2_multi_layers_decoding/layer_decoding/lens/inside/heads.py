"""An attention taken apart into its heads.

    answer = Σ_h W_h z_h + bias        z_h: what head h brings together of the values that it reads

The last product of an attention takes all heads side by side. With all heads but one put out it gives that one's share.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import Blocks, hidden_output
from layer_decoding.lens.inside.parts import Part
from layer_decoding.models.sizes import text_config


@dataclass
class Heads:
    """One layer's attention at some positions, T of them: the product at its end, and what it was given."""

    blocks: Blocks
    layer: int
    part: Part
    calls: list[tuple[torch.nn.Module, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    whole: list[torch.Tensor] = field(default_factory=list)  # the attention's answer

    def answers(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What each head adds to the hidden states, [H, T, D], and what is added whatever they say, [D].

        Raises:
            LayerDecodingError: the attention does not end in a product of its heads.
        """
        count = getattr(text_config(self.blocks.model.config), "num_attention_heads", 0)
        ends = [(end, given) for end, given, answer in self.calls if torch.equal(answer, self.whole[0])]
        if not ends or not count or ends[0][1].shape[-1] % count:
            raise _no_heads(self.blocks, self.layer)
        product, given = ends[0]
        apart = torch.zeros(count, *given.shape, dtype=given.dtype, device=given.device)
        for head, (alone, values) in enumerate(zip(apart, given.chunk(count, -1), strict=True)):
            alone.chunk(count, -1)[head].copy_(values)
        nothing = product(torch.zeros_like(given[None, :1]))[0, 0]
        answers = product(apart) - nothing
        return answers * self.part.factor, nothing * self.part.factor


@contextmanager
def watched_heads(blocks: Blocks, layer: int, parts: Sequence[Part], positions: slice) -> Iterator[Heads]:
    """While open, a forward pass leaves what is needed to tell the heads of a layer apart.

    Raises:
        LayerDecodingError: there is no attention, or not one alone.
    """
    block = blocks.modules[layer - 1]
    attentions = [part for part in parts if part.is_attention and _is_of_heads(block, part)]
    if len(attentions) != 1 or sum(part.is_attention for part in parts) != 1:
        raise _no_heads(blocks, layer)
    heads = Heads(blocks, layer, attentions[0])

    def keep(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], torch.Tensor) and isinstance(output, torch.Tensor) and not [*module.children()]:
            heads.calls.append((module, args[0][0, positions], output[0, positions]))

    def finish(_module: torch.nn.Module, _args: object, output: Any) -> None:
        heads.whole.append(hidden_output(output)[0, positions])

    with ExitStack() as hooks:
        for module in heads.part.module.modules():
            if next(module.parameters(), None) is not None:
                hooks.callback(module.register_forward_hook(keep).remove)
        hooks.callback(heads.part.module.register_forward_hook(finish).remove)
        yield heads


def _is_of_heads(block: torch.nn.Module, part: Part) -> bool:
    """Whether a part is, or is the end of, what its class calls an attention: a convolution has no heads to show."""
    steps = part.path.split(".")
    modules = [block.get_submodule(".".join(steps[: depth + 1])) for depth in range(len(steps))]
    return any("attention" in type(module).__name__.lower() for module in modules)


def _no_heads(blocks: Blocks, layer: int) -> LayerDecodingError:
    return LayerDecodingError(
        f"Layer {layer} of {type(blocks.model).__name__} has no attention that ends in a product of its heads, so what"
        " each of them adds cannot be told; leave its attention whole.",
        settings=["heads"],
    )
