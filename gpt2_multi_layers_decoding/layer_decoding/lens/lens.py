"""The logit lens: what the output of any block says, read by the model's own norm and head.

    logits_k = unembed(final_norm(hidden_k))        (nostalgebraist, "interpreting GPT: the logit lens", 2020)

What a model does after its blocks is its own affair: a norm, for some a projection, the head, for some a scale or
a soft cap. So the lens lets the model do it, on a copy of it that shares all weights and has, in the place of all
blocks, a single one that hands on the hidden states to read.

A fitted lens (`fitted.linear`) translates hidden_k first, from layer k's basis into the last one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.layers import PLAIN_LENS, Layer
from layer_decoding.lens.blocks import Blocks, block_outputs, find_blocks
from layer_decoding.lens.cache import refusing
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.inside.parts import Part, find_parts
from layer_decoding.lens.quick import quick_head
from layer_decoding.lens.sharing import set_forward, shallow_copy, with_modules
from layer_decoding.models.devices import device_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKED_TOKENS = 8
NOT_BY_LAYER = "{model} cannot be read layer by layer ({error}); use another model, such as mini."


class HiddenStateSource:
    """In the place of a model's blocks: whatever it is given, it answers with the rows that are to be read."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.module = shallow_copy(blocks.modules[0])  # what a model asks its blocks for besides an output is there
        self.rows: torch.Tensor | None = None
        set_forward(self.module, self._answer)

    def _answer(self, *_args: object, **_options: object) -> Any:
        return (self.rows, None) if self.blocks.in_tuple else self.rows


@dataclass(frozen=True)
class Lens:
    """A way to read the blocks of a model; `reader` is the model with `source` in their place."""

    blocks: Blocks
    reader: "PreTrainedModel"
    source: HiddenStateSource
    fitted: FittedLens | None = None  # None is the plain lens

    @property
    def name(self) -> str:
        """What the lens is called where its numbers stand."""
        return PLAIN_LENS if self.fitted is None else self.fitted.name

    @property
    def model(self) -> "PreTrainedModel":
        """The model that is read."""
        return self.blocks.model

    @property
    def layer_count(self) -> int:
        """L, the number of blocks."""
        return self.blocks.count

    @cached_property
    def parts(self) -> list[list[Part]]:
        """What each block adds up; found once, at the price of a few short passes: see `find_parts`."""
        return find_parts(self.blocks)

    def logits(self, hidden: torch.Tensor, layers: Sequence[Layer]) -> torch.Tensor:
        """Contiguous next-token logits float32 [R, V] of the outputs [R, D] of the blocks `layers` [R]."""
        if self.fitted is not None:
            hidden = self.fitted.translate(hidden, layers)
        self.source.rows = hidden[:, None]
        # Which token and which position these rows stand for is forgotten by now: any will do.
        ids = torch.zeros(len(hidden), 1, dtype=torch.long, device=device_of(self.model))
        answer: Any = self.reader(input_ids=ids, use_cache=False)
        self.source.rows = None
        logits: torch.Tensor = answer.logits[:, 0].float().contiguous()
        return logits if self.fitted is None else self.fitted.scale(logits, layers)

    def check_layers(self, layers: Sequence[Layer]) -> None:
        """Raise UsageError for a layer that the lens cannot read."""
        if self.fitted is not None:
            self.fitted.check_layers(layers)


def find_lens(model: "PreTrainedModel", fitted: FittedLens | None = None) -> Lens:
    """The lens of a model: the plain one, or one that was fitted to it.

    Raises:
        LayerDecodingError: the model is not built as L blocks below a head; or the lens is another model's.
    """
    blocks = find_blocks(model)
    if fitted is not None:
        fitted.check_model(blocks)
        fitted = fitted.on(model.get_output_embeddings().weight.device)  # where rows are stacked
    source = HiddenStateSource(blocks)
    reader = with_modules(model, {blocks.path: torch.nn.ModuleList([source.module]), **quick_head(model)})
    return Lens(blocks, reader, source, fitted)


# How far two roundings of the same logits may lie apart, as a share of the largest: a sum is off by a share of its
# terms, which are as large where they cancel out.
_ROUNDING = 5e-6  # in float32; in 16 bits a few units in the last place


def check_lens(lens: Lens, hidden: torch.Tensor, logits: torch.Tensor) -> None:
    """Compare the lens on the last block's output [1, D] with the logits [1, V] that the model itself gave.

    Raises:
        LayerDecodingError: they differ by more than rounding, so no number of the lens could be trusted; or they are
            not finite.
    """
    ours, theirs = lens.logits(hidden, [lens.layer_count]), logits.float().to(hidden.device)
    check_finite(theirs)
    gap, largest = float((ours - theirs).abs().max()), float(theirs.abs().max())
    relative = _ROUNDING if logits.dtype == torch.float32 else 4 * torch.finfo(logits.dtype).eps
    if not gap <= relative * largest:
        raise LayerDecodingError(
            f"The lens on the last layer misses the logits of {type(lens.model).__name__} by {gap:.2g}, "
            "so its numbers would be wrong for this model; use another model, such as mini.",
            settings=["model"],
        )


def check_near(lens: Lens, ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    """Compare logits [1, V] of a model that came about in two ways, a cache or a larger batch in one of them.

    The two round differently; where something is wrong, they are apart by about as much as they are large.

    Raises:
        LayerDecodingError: they are not near enough, or not finite.
    """
    check_finite(theirs)
    gap, largest = float((ours - theirs.float().to(ours.device)).abs().max()), float(theirs.abs().max())
    if not gap <= (1e-3 if lens.model.dtype == torch.float32 else 0.1) * largest:
        raise LayerDecodingError(
            f"{type(lens.model).__name__} {what} is off by {gap / largest:.1%}, so its numbers would be wrong; use"
            " another model, such as mini.",
            settings=["model"],
        )


def check_on(lens: Lens, ids: Sequence[int]) -> None:
    """Check the lens on the beginning of a text, where the first pass over it gives no logits: see `check_lens`."""
    few = torch.tensor([list(ids[:CHECKED_TOKENS])], device=device_of(lens.model))
    with torch.inference_mode(), refusing(lens.model, NOT_BY_LAYER):
        with block_outputs(lens.blocks) as outputs:
            answer: Any = lens.model(input_ids=few, use_cache=False)
        check_lens(lens, outputs[lens.layer_count], answer.logits[:, -1])
