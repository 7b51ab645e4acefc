"""The logit lens: what the output of any block says, read by the model's own norm and head.

    logits_k = unembed(final_norm(hidden_k))        (nostalgebraist, "interpreting GPT: the logit lens", 2020)

`hidden_k` is the output of block k. It is read from the block itself: the last entry of transformers'
`hidden_states` is already normalised, and normalising it again moves its logits by up to 1.

What a model does after its blocks is its own affair: a norm, for some a projection, the head, for some a scale or
a soft cap. So the lens lets the model do it, on a view of it that has, in the place of all blocks, a single one that
hands on the hidden states to read.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.cache import WAYS_OUT, refusing
from layer_decoding.lens.sharing import quick_head, set_forward, shallow_copy, with_modules
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import layer_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel


CHECKED_TOKENS = 8


class HiddenStateSource:
    """In the place of a model's blocks: whatever it is given, it answers with the rows that are to be read."""

    def __init__(self, block: torch.nn.Module) -> None:
        self.block = shallow_copy(block)  # what the model asks its blocks for besides their output, it still finds
        self.rows: torch.Tensor | None = None
        self.in_tuple = False  # whether this model's blocks answer with a tuple
        set_forward(self.block, self._answer)

    def _answer(self, *_args: object, **_options: object) -> Any:
        return (self.rows, None) if self.in_tuple else self.rows


@dataclass(frozen=True)
class Lens:
    """A causal model taken apart: `blocks[k - 1]` is block k, found at `blocks_path`; `base` is all but the head."""

    model: "PreTrainedModel"
    base: torch.nn.Module
    blocks: torch.nn.ModuleList
    blocks_path: str
    reader: "PreTrainedModel"  # the view with the stand-in for blocks
    stand_in: HiddenStateSource

    @property
    def layer_count(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The lens: contiguous next-token logits float32 [R, V] of block outputs [R, D]."""
        self.stand_in.rows = hidden[:, None]
        # Which token and which position these rows stand for is forgotten by now: any will do.
        ids = torch.zeros(len(hidden), 1, dtype=torch.long, device=device_of(self.model))
        answer: Any = self.reader(input_ids=ids, use_cache=False)
        self.stand_in.rows = None
        logits: torch.Tensor = answer.logits[:, 0].float().contiguous()
        return logits


def find_lens(model: "PreTrainedModel") -> Lens:
    """Find the blocks and the head in the model's own structure.

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
        raise LayerDecodingError(f"The lens finds no list of {count} blocks and a head in {_name(model)}; {WAYS_OUT}.")
    stand_in = HiddenStateSource(lists[path][0])
    reader = with_modules(model, {path: torch.nn.ModuleList([stand_in.block]), **quick_head(model)})
    return Lens(model, model.get_submodule(base), lists[path], path, reader, stand_in)


@contextmanager
def block_outputs(lens: Lens, positions: int | slice = -1) -> Iterator[dict[int, torch.Tensor]]:
    """While open, every forward pass leaves the last position of hidden_0 … hidden_L here: {k: [B, D]}.

    `positions` asks for others: slice(None) for all S of a pass, {k: [B, S, D]}.

    Raises:
        LayerDecodingError: in the pass, where a block's output is no hidden state, or there are several of it.
    """
    outputs: dict[int, torch.Tensor] = {}

    def forget(*_: object) -> None:
        outputs.clear()

    def keep_embeddings(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        outputs.setdefault(0, hidden_input(args, options)[:, positions])

    def keep(layer: int) -> Any:
        def hook(_module: torch.nn.Module, _args: object, output: Any) -> None:
            hidden = hidden_output(output)
            if layer in outputs or not isinstance(hidden, torch.Tensor) or hidden.ndim != 3:
                reason = "runs more than once a token" if layer in outputs else "hands on more than a hidden state"
                raise LayerDecodingError(f"Block {layer} of {_name(lens.model)} {reason}; {WAYS_OUT}.")
            outputs[layer] = hidden[:, positions]
            lens.stand_in.in_tuple = isinstance(output, tuple | list)

        return hook

    handles = [
        lens.base.register_forward_pre_hook(forget),
        lens.blocks[0].register_forward_pre_hook(keep_embeddings, with_kwargs=True),
        *(block.register_forward_hook(keep(layer)) for layer, block in enumerate(lens.blocks, 1)),
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


def stacked(outputs: dict[int, torch.Tensor], layers: Sequence[int]) -> torch.Tensor:
    """The outputs [B, D] of some layers as rows [R · B, D], on the device of the last one, where the head is."""
    device = outputs[max(outputs)].device
    return torch.cat([outputs[layer].to(device) for layer in layers])


def check_lens(lens: Lens, hidden: torch.Tensor, logits: torch.Tensor) -> None:
    """Compare the lens on the last block's output [1, D] with the logits [1, V] that the model itself gave.

    Raises:
        LayerDecodingError: they differ by more than rounding, so no number of the lens could be trusted.
    """
    ours, theirs = lens.logits(hidden), logits.float().to(hidden.device)
    # float32 rounds sums of this length to about 1e-6 of their size; 16-bit types to a few units in the last place.
    relative = 1e-5 if logits.dtype == torch.float32 else 4 * torch.finfo(logits.dtype).eps
    if not torch.allclose(ours, theirs, rtol=relative, atol=1e-4):
        gap = (ours - theirs).abs().max().item()
        raise LayerDecodingError(
            f"The lens on the last layer misses the logits of {_name(lens.model)} by {gap:.2g}, "
            f"so its numbers would be wrong for this model; {WAYS_OUT}."
        )


def check_near(lens: Lens, ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    """Compare logits [1, V] of a model that came about in two ways, a cache or a larger batch in one of them.

    The two round differently; where something is wrong, they are apart by about as much as they are large.

    Raises:
        LayerDecodingError: they are not near enough.
    """
    gap = float((ours - theirs.float().to(ours.device)).abs().max() / theirs.abs().max())
    if not gap < (1e-3 if lens.model.dtype == torch.float32 else 0.1):
        raise LayerDecodingError(
            f"{_name(lens.model)} {what} is off by {gap:.1%}, so its numbers would be wrong; {WAYS_OUT}."
        )


def check_on(lens: Lens, ids: Sequence[int]) -> None:
    """Check the lens on the beginning of a text, where the first pass over it gives no logits: see `check_lens`."""
    few = torch.tensor([list(ids[:CHECKED_TOKENS])], device=device_of(lens.model))
    with torch.inference_mode(), refusing(lens.model, "be read"):
        with block_outputs(lens) as outputs:
            answer: Any = lens.model(input_ids=few, use_cache=False)
        check_lens(lens, outputs[lens.layer_count], answer.logits[:, -1])


def _name(model: "PreTrainedModel") -> str:
    return type(model).__name__
