"""A GGUF file as a source: its weights, configuration, tokenizer and model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.configuration import check_config, read_config
from layer_decoding.models.gguf.tokenizer import build_tokenizer
from layer_decoding.models.sizes import text_config
from layer_decoding.models.tokenizer import read_tokenizer
from layer_decoding.models.weights import Weights, build

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SUFFIX = ".gguf"
PACKAGES = ("gguf", "accelerate")


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file, and the name that its model was asked for by."""

    path: Path
    name: str
    revision: ClassVar[None] = None

    def read_weights(self) -> Weights:
        """The weights, by the file's header; refused where it is not there, not whole, or cannot be read here."""
        _check_is_there(self.path)
        header = _header(self.path)
        end = max((header.data_start + info.offset + info.nbytes for info in header.tensors), default=0)
        size = self.path.stat().st_size
        if not header.tensors or size < end:
            raise LayerDecodingError(
                f"{self.path} has {size:,} bytes and its header tells of {end:,}, so it is cut short; copy it again."
            )
        # Quantized weights are computed with in floating point; none of its types is theirs by right.
        dtype = "float16" if header.dtype is None else str(header.dtype).removeprefix("torch.")
        return Weights((self.path,), sum(prod(info.shape) for info in header.tensors), dtype)

    def read_config(self) -> "PreTrainedConfig":
        """The configuration by the file's metadata, known to be that of a causal decoder with attention blocks."""
        config = read_config(self.path.parent, self.path, **self._options)
        _set_context(config, self.path)
        check_config(config, self.path)
        return config

    def read_tokenizer(self, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
        """The tokenizer by the file's metadata, checked against the vocabulary of `config`."""
        return read_tokenizer(lambda: build_tokenizer(self.path), self.path, config)

    def read_model(
        self, config: "PreTrainedConfig", dtype: str, device_map: str | dict[str, str | int] | None
    ) -> "PreTrainedModel":
        """The model of `config` with every weight from the file, in `dtype`, placed by a device map if any."""
        with _without_progress_bar():
            return build(self.path.parent, config, dtype, device_map, **self._options)

    @property
    def _options(self) -> dict[str, str]:
        """What transformers has to be told to find the model in the file's folder."""
        return {"gguf_file": self.path.name}


def _check_is_there(file: Path) -> None:
    if not file.is_file():
        raise LayerDecodingError(
            f"There is no file {file}; check the path, or give a Hub name, or mini for the bundled model.",
            settings=("model",),
        )
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise LayerDecodingError(
            f"{file} is a GGUF file, and {' and '.join(missing)} to read it with are not installed; run pip install"
            f" {' '.join(PACKAGES)}."
        )


def _header(file: Path) -> Any:
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        return GgufHeader.from_file(str(file))
    except Exception as error:
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(
            f"{file} ({size}) is no GGUF file that can be read ({brief(error)}); copy it again."
        ) from error


def _set_context(config: Any, file: Path) -> None:
    """Give a configuration the context that its GGUF file names: transformers drops it for some, GPT-2 among them."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    context = metadata.get(f"{metadata['general.architecture']}.context_length")
    sizes = text_config(config)
    if context and getattr(sizes, "max_position_embeddings", None) is not None:
        sizes.max_position_embeddings = int(context)


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """While open, transformers' conversion of GGUF tensors draws no bar: it has no switch for that one."""
    conversion: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    bar = conversion.tqdm
    conversion.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        conversion.tqdm = bar
