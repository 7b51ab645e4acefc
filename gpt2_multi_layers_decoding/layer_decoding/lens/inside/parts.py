"""What each block adds to the hidden state that it is given, and which of its modules add it.

    output of a block = its input + Σ factor · answer of a part

The parts are found in the block's own structure, once: each of its modules that holds weights is made to answer with
a mark, another dimension for each, and the block's output shows whose marks were added, and by what factor. A part that
sees other positions is an attention (or a convolution, a recurrence in its place), any other is an MLP.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import Blocks, hidden_input, hidden_output
from layer_decoding.lens.cache import refusing
from layer_decoding.models.devices import device_of

NOT_BY_PARTS = "{model} cannot be read inside its blocks ({error}); keep to whole layers."
SETTINGS = ("layers", "sublayers", "view")
_DEEPEST = 4  # how far down inside a block a part may be
_TOKENS = 2  # the fewest in which one can see another

Modules = dict[str, torch.nn.Module]  # of one block, by their paths within it


@dataclass(frozen=True)
class Part:
    """A module of a block whose answer, times a factor, is added to the block's input."""

    path: str  # within the block
    module: torch.nn.Module
    factor: float
    is_attention: bool


def find_parts(blocks: Blocks) -> list[list[Part]]:
    """The parts of each block, in the order in which the block holds them.

    Raises:
        LayerDecodingError: a block does not add its parts' answers to its input.
    """
    with torch.inference_mode(), refusing(blocks.model, NOT_BY_PARTS, SETTINGS):
        modules, factors = _added_modules(blocks)
        seeing = _seeing(blocks, modules)
    return [
        [Part(path, module, factors[block][path], path in seeing[block]) for path, module in inside.items()]
        for block, inside in enumerate(modules)
    ]


def _added_modules(blocks: Blocks) -> tuple[list[Modules], list[dict[str, float]]]:
    """The modules of each block whose answers are added in its output, and their factors.

    A module that was given the block's input to add it itself hides that: then the modules inside it are looked at.
    """
    modules = [_inside(block) for block in blocks.modules]
    for _ in range(_DEEPEST):
        marks = _marks(blocks, modules)
        hiding = [block for block, (given, _) in enumerate(marks) if given != 1]
        if not hiding:
            factors = [found for _, found in marks]
            return [
                {path: module for path, module in inside.items() if found[path]}
                for inside, found in zip(modules, factors, strict=True)
            ], factors
        for block in hiding:
            modules[block] = _opened(modules[block], marks[block][1])
    raise not_a_sum(blocks, hiding[0] + 1)


def _inside(module: torch.nn.Module, path: str = "") -> Modules:
    """The modules right inside another that hold weights; what holds none (a dropout) is how those are put together."""
    children = module.named_children()
    return {path + name: child for name, child in children if next(child.parameters(), None) is not None}


def _opened(modules: Modules, factors: Mapping[str, float]) -> Modules:
    """The modules with those that show in the output opened, where there is anything inside."""
    opened: Modules = {}
    for path, module in modules.items():
        inside = _inside(module, f"{path}.") if factors[path] else {}
        opened |= inside or {path: module}
    return opened


def _marks(blocks: Blocks, modules: list[Modules]) -> list[tuple[float, dict[str, float]]]:
    """What is left at the end of each block of a mark on its input and of one on each module's answer."""
    left: list[torch.Tensor] = []
    with ExitStack() as hooks:
        for block, inside in zip(blocks.modules, modules, strict=True):
            _replace_input(hooks, block, partial(_marked, 0))
            for dimension, module in enumerate(inside.values(), 1):
                _replace_output(hooks, module, partial(_marked, dimension))
            _keep_output(hooks, block, left)
        _pass(blocks, rows=1)
    ends = [hidden_output(output)[0, -1].tolist() for output in left]
    return [(end[0], dict(zip(inside, end[1:], strict=False))) for end, inside in zip(ends, modules, strict=True)]


def _marked(dimension: int, like: torch.Tensor) -> torch.Tensor:
    """Nothing but a one in one dimension, shaped as a tensor is; what is too narrow for it is no hidden state."""
    mark = torch.zeros_like(like)
    mark[..., dimension : dimension + 1] = 1
    return mark


def _seeing(blocks: Blocks, modules: list[Modules]) -> list[set[str]]:
    """The paths of the modules in each block whose answer at a position depends on what stands before it.

    Every block is given two texts that differ before their last position. Answers are kept and put out, so that one
    module does not see through another.
    """
    shape = (2, _TOKENS)
    seeing: list[dict[str, torch.Tensor]] = [{} for _ in modules]
    dice = torch.Generator().manual_seed(0)

    def texts(hidden: torch.Tensor) -> torch.Tensor:
        states = torch.randn(*shape, hidden.shape[-1], generator=dice)
        states[:, -1] = states[0, -1]
        return states.to(hidden)

    with ExitStack() as hooks:
        for block, inside, found in zip(blocks.modules, modules, seeing, strict=True):
            _replace_input(hooks, block, texts)
            for path, module in inside.items():

                def keep(answer: torch.Tensor, path: str = path, found: dict[str, Any] = found) -> torch.Tensor:
                    found[path] = answer.view(*shape, -1)[:, -1].float()
                    return torch.zeros_like(answer)

                _replace_output(hooks, module, keep)
        _pass(blocks, rows=2)
    return [{path for path, answers in found.items() if _differ(*answers)} for found in seeing]


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two answers are apart by more than rounding."""
    return bool((one - other).abs().max() > 1e-3 * one.abs().max())


def _pass(blocks: Blocks, rows: int) -> None:
    """A short pass through all blocks."""
    ids = torch.zeros(rows, _TOKENS, dtype=torch.long, device=device_of(blocks.model))
    blocks.base(input_ids=ids, use_cache=False)


def _replace_input(hooks: ExitStack, block: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Until the hooks are closed, a block is given another hidden state."""

    def hook(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        changed = change(hidden_input(args, options))
        return ((changed, *args[1:]), options) if args else (args, options | {"hidden_states": changed})

    hooks.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _replace_output(hooks: ExitStack, module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Until the hooks are closed, a module answers something else."""

    def hook(_module: torch.nn.Module, _args: object, output: Any) -> Any:
        changed = change(hidden_output(output))
        return type(output)([changed, *output[1:]]) if isinstance(output, tuple | list) else changed

    hooks.callback(module.register_forward_hook(hook).remove)


def _keep_output(hooks: ExitStack, module: torch.nn.Module, kept: list[torch.Tensor]) -> None:
    """Until the hooks are closed, what a module answers is kept."""
    hooks.callback(module.register_forward_hook(lambda _module, _args, output: kept.append(output)).remove)


def not_a_sum(blocks: Blocks, layer: int) -> LayerDecodingError:
    return LayerDecodingError(
        f"Block {layer} of {type(blocks.model).__name__} does not end in its input with what its attention and its MLP"
        " add to it, so nothing can be said of either; keep to whole layers.",
        settings=SETTINGS,
    )
