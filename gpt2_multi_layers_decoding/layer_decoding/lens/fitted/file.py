"""A fitted lens on disk: one safetensors file, beside its model or in the user's cache, or a folder of `tuned-lens`.

The header of a file says what it was fitted on, and to which model; matrices are kept in 16 bits.
"""

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.layers import LINEAR_LENS, PLAIN_LENS
from layer_decoding.lens.blocks import Blocks, find_blocks
from layer_decoding.lens.fitted.linear import FittedLens, fingerprint
from layer_decoding.lens.fitted.tuned_folder import CONFIG_FILE, read_tuned_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from layer_decoding.models.loading import LoadedModel

SUFFIX = ".safetensors"
BESIDE_MODEL = f"lens{SUFFIX}"
FORMAT = "layer-decoding/lens/1"


def named_lens(name: str, loaded: "LoadedModel") -> FittedLens | None:
    """The lens that a reader asked for: none for "plain", the model's own for "linear", else that of a file or folder.

    Raises:
        LayerDecodingError: there is none; or it cannot be read, or belongs to another model.
    """
    if name == PLAIN_LENS:
        return None
    if name != LINEAR_LENS:
        return read_lens(Path(name).expanduser(), loaded.model)
    places = [*_beside(loaded.path), cached_place(loaded.model)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise LayerDecodingError(
            f"No lens is fitted to {loaded.name} yet: there is neither {places[0]} nor one in the cache; fit one with"
            f" python fit_lens_demo.py TEXT --model {shlex.quote(loaded.name)}, or use the plain lens.",
        )
    return read_lens(found, loaded.model)


def _beside(path: Path | None) -> list[Path]:
    """Where the lens of a model lies that was read from a folder or a file."""
    return [] if path is None else [(path if path.is_dir() else path.parent) / BESIDE_MODEL]


def cached_place(model: "PreTrainedModel") -> Path:
    """Where the lens of a model is kept that has none beside it: a file in the user's cache, named by the model."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "multi-layer-decoding" / f"{fingerprint(find_blocks(model))[:16]}{SUFFIX}"


def lens_bytes(lens: FittedLens) -> bytes:
    """A lens as the content of a file."""
    from safetensors.torch import save

    header = {
        "format": FORMAT,
        "name": lens.name,
        "fingerprint": lens.fingerprint,
        "layer_count": lens.layer_count,
        "layers": lens.layers,
        "origin": dict(lens.origin),
    }
    tensors = {
        "matrices": lens.matrices.half().cpu().contiguous(),
        "biases": lens.biases.cpu().contiguous(),
        "scales": lens.scales.cpu().contiguous(),
    }
    return save(tensors, {"lens": json.dumps(header)})


def read_lens(path: Path, model: "PreTrainedModel") -> FittedLens:
    """The lens in a file, or in a folder of the package tuned-lens.

    Raises:
        LayerDecodingError: it is not there, is no lens or a damaged one, or belongs to another model.
    """
    blocks = find_blocks(model)
    if path.is_dir():
        return read_tuned_folder(path, blocks)
    if not path.is_file():
        raise LayerDecodingError(
            f"There is no lens {path}; give plain, linear, the file of a fitted lens, or a folder with the"
            f" {CONFIG_FILE} of tuned-lens.",
            settings=["lens"],
        )
    lens = _read_file(path, blocks)
    lens.check_model(blocks)
    return lens


def _read_file(path: Path, blocks: Blocks) -> FittedLens:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["lens"])
            tensors = {name: file.get_tensor(name).float() for name in ("matrices", "biases", "scales")}
        return _lens_of(header, tensors, blocks)
    except OSError as error:
        raise LayerDecodingError(f"{path} cannot be read ({error.strerror or error}); give another lens.") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LayerDecodingError(
            f"{path} is not the whole file of a fitted lens; fit it again, or use the plain lens.", settings=["lens"]
        ) from error


def _lens_of(header: Mapping[str, Any], tensors: dict[str, torch.Tensor], blocks: Blocks) -> FittedLens:
    """The lens; what does not fit together is a ValueError or a TypeError."""
    layers = tuple(int(layer) for layer in header["layers"])
    count, width = len(layers), tensors["biases"].shape[-1]
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != {"matrices": (count, width, width), "biases": (count, width), "scales": (count,)}:
        raise ValueError(f"shapes {shapes}")
    if (
        header["format"] != FORMAT
        or list(layers) != sorted({*layers})
        or not all(0 <= k < blocks.count for k in layers)
    ):
        raise ValueError(f"layers {layers}")
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ValueError("numbers that are none")
    return FittedLens(
        layers,
        **tensors,
        layer_count=int(header["layer_count"]),
        fingerprint=str(header["fingerprint"]),
        name=str(header["name"]),
        origin=dict(header["origin"]),
    )
