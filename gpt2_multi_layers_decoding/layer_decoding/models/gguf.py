"""A model in one GGUF file, as llama.cpp has it: looked at before it is loaded, which transformers does."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.checkpoint import Weights
from layer_decoding.models.sizes import text_config

PACKAGES = ("gguf", "accelerate")


def check_gguf(file: Path) -> Weights:
    """The weights in a GGUF file, by its header; refused where it is not there, not whole, or cannot be read here."""
    if not file.is_file():
        raise LayerDecodingError(f"There is no file {file}; check the path, or give a Hub name or --model mini.")
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise LayerDecodingError(
            f"{file} is a GGUF file, and {' and '.join(missing)} to read it with are not installed; run pip install"
            f" {' '.join(PACKAGES)}."
        )
    header = _header(file)
    end = max((header.data_start + info.offset + info.nbytes for info in header.tensors), default=0)
    size = file.stat().st_size
    if not header.tensors or size < end:
        raise LayerDecodingError(
            f"{file} has {size:,} bytes and its header tells of {end:,}, so it is cut short; copy it again."
        )
    # Quantized weights are computed with in floating point; none of its types is theirs by right.
    dtype = "float16" if header.dtype is None else str(header.dtype).removeprefix("torch.")
    return Weights((file,), sum(prod(info.shape) for info in header.tensors), dtype)


def set_context(config: Any, file: Path) -> None:
    """Give a configuration the context that its GGUF file names: transformers drops it for some, GPT-2 among them."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    context = metadata.get(f"{metadata['general.architecture']}.context_length")
    sizes = text_config(config)
    if context and getattr(sizes, "max_position_embeddings", None) is not None:
        sizes.max_position_embeddings = int(context)


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """While open, transformers' conversion of GGUF tensors draws no bar: it has no switch for that one."""
    conversion: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    bar = conversion.tqdm
    conversion.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        conversion.tqdm = bar


def _header(file: Path) -> Any:
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        return GgufHeader.from_file(str(file))
    except Exception as error:
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(
            f"{file} ({size}) is no GGUF file that can be read ({brief(error)}); copy it again."
        ) from error
