"""Numbers that are none: a NaN or an infinity is never shown."""

import torch

from layer_decoding.errors import LayerDecodingError


def check_finite(*numbers: torch.Tensor | None) -> None:
    """Refuse to go on where a model's logits, or what was measured of them, are not finite.

    Given are a few numbers a row that are finite only if the logits are: their maximum, an entropy. To look at every
    logit would take as long as to find the largest.

    Raises:
        LayerDecodingError: some number is a NaN or an infinity.
    """
    if not all(bool(some.isfinite().all()) for some in numbers if some is not None):
        raise not_finite()


def not_finite() -> LayerDecodingError:
    """The sentence about it."""
    return LayerDecodingError(
        "The model gives no finite logits here: its weights hold a NaN or an infinity, or its numbers grow beyond its "
        "number format; restore its files, or load it in float32.",
        settings=("dtype",),
    )
