"""A tuned lens as the package `tuned-lens` (0.2.0) leaves it: a folder with config.json and params.pt.

Its translators are residual, hidden + W hidden + b, one for each entry of `hidden_states` below the last: number k
reads layer k, number 0 the embeddings. The parameters are a pickle of which nothing but tensors is read.
"""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import Blocks
from layer_decoding.lens.fitted.linear import FittedLens, fingerprint
from layer_decoding.models.sizes import text_config

CONFIG_FILE, PARAMETERS_FILE = "config.json", "params.pt"


def read_tuned_folder(folder: Path, blocks: Blocks) -> FittedLens:
    """The lens in a folder of tuned-lens.

    Raises:
        LayerDecodingError: the folder holds none, or a damaged one, or it belongs to another model.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        translators = torch.load(folder / PARAMETERS_FILE, map_location="cpu", weights_only=True)
        count, width = int(config["num_hidden_layers"]), int(config["d_model"])
        weights = torch.stack([translators[f"{layer}.weight"].float() for layer in range(count)])
        nothing = torch.zeros(width)
        biases = torch.stack([translators.get(f"{layer}.bias", nothing).float() for layer in range(count)])
        matrices = weights + torch.eye(width)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        raise LayerDecodingError(
            f"{folder} holds no whole lens of the package tuned-lens ({CONFIG_FILE} and {PARAMETERS_FILE}, nothing but"
            " tensors in it); save it again, or use the plain lens.",
            settings=["lens"],
        ) from error
    _check_model(folder, config, count, width, blocks)
    origin = {"package": "tuned-lens", "model": config.get("base_model_name_or_path")}
    scales = torch.ones(count)
    return FittedLens(
        tuple(range(count)), matrices, biases, scales, count, fingerprint(blocks), name="tuned", origin=origin
    )


def _check_model(folder: Path, config: dict[str, Any], count: int, width: int, blocks: Blocks) -> None:
    """Refuse the lens of another model: another number of layers, another width, another head by the package's hash."""
    head = blocks.model.get_output_embeddings().weight
    theirs, hidden = config.get("unembed_hash"), int(text_config(blocks.model.config).hidden_size)
    if count == blocks.count and width == hidden and theirs in (None, unembedding_hash(head)):
        return
    raise LayerDecodingError(
        f"The tuned lens in {folder} belongs to another model ({config.get('base_model_name_or_path')}, {count} layers"
        f" of width {width}) than this one, of {blocks.count} layers; give the lens of this model.",
        settings=["lens", "model"],
    )


def unembedding_hash(head: torch.Tensor) -> str:
    """What the package knows a head by: a hash of how NumPy prints the corners of its weight."""
    import numpy

    shown = numpy.array_str(head.detach().cpu().float().numpy(), precision=1)
    return hashlib.sha256(shown.encode()).hexdigest()
