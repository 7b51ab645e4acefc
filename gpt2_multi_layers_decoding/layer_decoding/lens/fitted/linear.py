"""The fitted lens: what layer k already knows of what layer L will say, by a linear map for each layer.

    logits_k = s_k · unembed(final_norm(A_k hidden_k + b_k))

A fitted row predicts the last layer; it is not what its layer says by itself. A and b are fitted by least squares
(`training.fitting`), or tuned on from there by the KL divergence from the last layer (N. Belrose et al., "Eliciting
Latent Predictions from Transformers with the Tuned Lens", 2023), whose package's files are read too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.layers import LINEAR_LENS, Layer, has_half_steps
from layer_decoding.lens.blocks import Blocks


@dataclass(frozen=True, eq=False, repr=False)
class FittedLens:
    """A map for each of N layers, ascending, of a model of L: A [N, D, D], b [N, D] and s [N], in float32.

    `fingerprint` tells the model that it belongs to. `name` is what the lens is called where its numbers stand;
    `origin` says what it was fitted on, as plain values.
    """

    layers: tuple[int, ...]
    matrices: torch.Tensor
    biases: torch.Tensor
    scales: torch.Tensor
    layer_count: int
    fingerprint: str
    name: str = LINEAR_LENS
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<FittedLens: {self.name}, {len(self.layers)} of {self.layer_count} layers>"

    def translate(self, hidden: torch.Tensor, layers: Sequence[Layer]) -> torch.Tensor:
        """Hidden states [R, D] of the layers [R] in the last layer's basis; that layer's own stay as they are.

        All maps are one product: a product a layer takes longer than the maps take to be read.
        """
        few = _repeated(layers)  # [N']
        places = [place for place, layer in enumerate(few) if layer != self.layer_count]
        if not places:
            return hidden
        mapped, maps = _as_slice(places), _as_slice([self._number[few[place]] for place in places])
        rows = hidden.unflatten(0, (-1, len(few))).transpose(0, 1)  # [N', S, D]
        # In float32: a map that magnifies small differences needs more than 16 bits of them.
        precise = rows[mapped].to(self.matrices)
        translated = rows.clone()
        translated[mapped] = torch.baddbmm(self.biases[maps][:, None], precise, self.matrices[maps].mT).to(hidden)
        moved: torch.Tensor = translated.transpose(0, 1).flatten(0, 1)
        return moved

    def scale(self, logits: torch.Tensor, layers: Sequence[Layer]) -> torch.Tensor:
        """Logits [R, V] of the layers [R] times their s; the last layer's stay as they are."""
        rows = [self._number[layer] for layer in layers]
        return logits * torch.cat([self.scales, self.scales.new_ones(1)])[rows, None]

    @cached_property
    def _number(self) -> dict[Layer, int]:
        """Where a layer's map is; the last layer, which has none, comes after them."""
        return {layer: number for number, layer in enumerate([*self.layers, self.layer_count])}

    def on(self, device: torch.device) -> "FittedLens":
        """The same lens with its maps on a device."""
        tensors = {name: getattr(self, name).to(device) for name in ("matrices", "biases", "scales")}
        return replace(self, **tensors)

    def check_layers(self, layers: Sequence[Layer]) -> None:
        """Raise UsageError for a layer without a map."""
        missing = sorted({*layers} - {*self.layers, self.layer_count})
        if missing:
            names = f"{'layers' if len(missing) > 1 else 'layer'} {', '.join(map(str, missing))}"
            halves = " (it is fitted to the outputs of blocks, not to half steps)" if has_half_steps(missing) else ""
            raise UsageError(
                f"The {self.name} lens has no map for {names}{halves}; leave out what it cannot read, or use the plain"
                " lens.",
                settings=["layers", "lens"],
            )

    def check_model(self, blocks: Blocks) -> None:
        """Raise LayerDecodingError where the lens was fitted to another model."""
        if self.layer_count == blocks.count and self.fingerprint == fingerprint(blocks):
            return
        dtype = str(blocks.model.get_output_embeddings().weight.dtype).removeprefix("torch.")
        same = f", or was fitted to it in another precision than {dtype}" if self.layer_count == blocks.count else ""
        raise LayerDecodingError(
            f"The {self.name} lens belongs to another model than this {type(blocks.model).__name__}, of"
            f" {self.layer_count} layers and with another final norm or head{same}; fit one to this model, or use the"
            " plain lens.",
            settings=["lens", "model"],
        )


def _repeated(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that come again and again, position by position; all of them where they do not."""
    rows, count = list(layers), len({*layers})
    return rows[:count] if rows == rows[:count] * (len(rows) // count) else rows


def _as_slice(numbers: list[int]) -> slice | list[int]:
    """An index of the numbers, one that copies nothing where they follow one another."""
    first, last = numbers[0], numbers[-1]
    return slice(first, last + 1) if numbers == [*range(first, last + 1)] else numbers


_fingerprints: "WeakKeyDictionary[torch.nn.Module, str]" = WeakKeyDictionary()


def fingerprint(blocks: Blocks) -> str:
    """A hash of what a model reads its last layer with: the norms outside its blocks, and the head.

    Of their values as the model runs, rounded to bfloat16. So float32 weights are the same model in float32 and in
    bfloat16, and float16 ones in all three; in float16, float32 weights are rounded twice, and are another model.
    """
    if blocks.model not in _fingerprints:
        norms = [
            weights
            for name, weights in blocks.model.named_parameters()
            if weights.ndim == 1 and not name.startswith(f"{blocks.path}.")
        ]
        digest = hashlib.sha256()
        for weights in [*norms, blocks.model.get_output_embeddings().weight]:
            digest.update(str(tuple(weights.shape)).encode())
            digest.update(weights.detach().to(torch.bfloat16).cpu().contiguous().view(torch.int16).numpy().data)
        _fingerprints[blocks.model] = digest.hexdigest()
    return _fingerprints[blocks.model]
