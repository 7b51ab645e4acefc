"""What the parts of each block add, read while the model runs; and the half steps, which are sums of it.

That a block's input and what its parts add are its output is proved wherever they are read, to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.layers import HalfStep, Layer, has_half_steps
from layer_decoding.lens.blocks import Blocks, block_outputs, hidden_input, hidden_output
from layer_decoding.lens.inside.parts import Part, not_a_sum

if TYPE_CHECKING:
    from layer_decoding.lens.lens import Lens


@dataclass(frozen=True)
class Added:
    """One block at some positions, [..., D] each: what it was given, and what each of its parts added to that."""

    before: torch.Tensor
    parts: Sequence[tuple[Part, torch.Tensor]]

    def of(self, *, attention: bool) -> torch.Tensor:
        """What its attention added, or its MLP, all parts of either together."""
        answers = [answer for part, answer in self.parts if part.is_attention == attention]
        return reduce(add, answers, torch.zeros_like(self.before))

    @property
    def half_step(self) -> torch.Tensor:
        """The state after its attention, before its MLP; where both read the same input, as if it were so."""
        return self.before + self.of(attention=True)


# ---------------------------------------------------------------- what they add
@contextmanager
def added_in_blocks(
    blocks: Blocks, parts: Sequence[Sequence[Part]], positions: int | slice = -1
) -> Iterator[dict[int, Added]]:
    """While open, every forward pass leaves here what each block was given and what its parts added: {k: Added}.

    Raises:
        LayerDecodingError: in the pass, where a block's input and what its parts added are not its output.
    """
    added: dict[int, Added] = {}

    def take(layer: int) -> Callable[[Added, torch.Tensor], None]:
        def checked(found: Added, output: torch.Tensor) -> None:
            if not _is_sum(found, output):
                raise not_a_sum(blocks, layer)
            added[layer] = found

        return checked

    with ExitStack() as hooks:
        for layer, (block, inside) in enumerate(zip(blocks.modules, parts, strict=True), 1):
            _watch(hooks, block, inside, positions, take(layer))
        yield added


def _watch(
    hooks: ExitStack,
    block: torch.nn.Module,
    parts: Sequence[Part],
    positions: int | slice,
    take: Callable[[Added, torch.Tensor], None],
) -> None:
    """Until the hooks are closed, `take` is given what the parts of a block add, and the block's output."""
    given: list[torch.Tensor] = []
    answers: dict[str, torch.Tensor] = {}

    def begin(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        given[:] = [hidden_input(args, options)]

    def keep(part: Part) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, _args: object, output: Any) -> None:
            answer = hidden_output(output).view(given[0].shape)[:, positions]  # some answer with all rows in a line
            answers[part.path] = answer * part.factor  # a copy: some blocks add up in place

        return hook

    def end(_module: torch.nn.Module, _args: object, output: Any) -> None:
        found = [(part, answers.pop(part.path)) for part in parts]
        take(Added(given.pop()[:, positions], found), hidden_output(output)[:, positions])

    hooks.callback(block.register_forward_pre_hook(begin, with_kwargs=True).remove)
    for part in parts:
        hooks.callback(part.module.register_forward_hook(keep(part)).remove)
    hooks.callback(block.register_forward_hook(end).remove)


def _is_sum(added: Added, output: torch.Tensor) -> bool:
    """Whether a block's input and its parts are its output, to the rounding of the largest number at each position."""
    exact = torch.promote_types(output.dtype, torch.float32)
    summands = [added.before.to(exact), *(answer.to(exact) for _, answer in added.parts)]
    largest = reduce(torch.maximum, (summand.abs().amax(-1) for summand in summands))
    missing = (reduce(add, summands) - output.to(exact)).abs().amax(-1)
    relative = 1e-5 if output.dtype == exact else 4 * torch.finfo(output.dtype).eps
    return not bool((missing > relative * largest).any())  # what is not finite is refused as such, later


# ---------------------------------------------------------------- half steps
@contextmanager
def layer_outputs(
    lens: "Lens", layers: Sequence[Layer], positions: int | slice = -1
) -> Iterator[dict[Layer, torch.Tensor]]:
    """`block_outputs` of the model that a lens reads, and the half steps where there are any among the layers.

    Raises:
        LayerDecodingError: as `block_outputs` and `added_in_blocks`; a block has no attention, or no MLP.
    """
    blocks, parts = lens.blocks, lens.parts if has_half_steps(layers) else []
    _check_halves(blocks, parts)
    with ExitStack() as stack:
        outputs = stack.enter_context(block_outputs(blocks, positions))
        if parts:
            added = stack.enter_context(added_in_blocks(blocks, parts, positions))
            for layer, block in enumerate(blocks.modules, 1):

                def keep(_module: torch.nn.Module, _args: object, _output: object, layer: int = layer) -> None:
                    outputs[HalfStep(layer)] = added[layer].half_step

                stack.callback(block.register_forward_hook(keep).remove)
        yield outputs


def _check_halves(blocks: Blocks, parts: Sequence[Sequence[Part]]) -> None:
    """Refuse a model in which some block has no attention, or no MLP, between which to stop."""
    for layer, inside in enumerate(parts, 1):
        if {part.is_attention for part in inside} != {True, False}:
            raise LayerDecodingError(
                f"Block {layer} of {type(blocks.model).__name__} is not an attention and an MLP, so there is no half"
                " step inside it; keep to whole layers.",
                settings=["layers", "sublayers"],
            )
