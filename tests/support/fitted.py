"""Lenses to test with: made up out of dice, and texts to fit one on."""

import torch

from layer_decoding.lens.blocks import find_blocks
from layer_decoding.lens.fitted.linear import FittedLens, fingerprint
from layer_decoding.models.sizes import text_config


def some_lens(model, layers=None, seed=0, identity=False):
    """A lens of a model that belongs to it and does something else at every layer; or nothing at all."""
    blocks = find_blocks(model)
    layers = tuple(range(1, blocks.count)) if layers is None else tuple(layers)
    width = text_config(model.config).hidden_size  # a head may be narrower, behind a projection
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.eye(width).repeat(len(layers), 1, 1)
    biases, scales = torch.zeros(len(layers), width), torch.ones(len(layers))
    if not identity:
        matrices += torch.randn(matrices.shape, generator=generator) / 4
        biases += torch.randn(biases.shape, generator=generator)
        scales = 0.5 + torch.rand(scales.shape, generator=generator)
    return FittedLens(layers, matrices, biases, scales, blocks.count, fingerprint(blocks))


def some_documents(vocabulary, count=16, length=60, seed=0):
    """Token ids out of dice."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (count, length), generator=generator).tolist()
