"""A GGUF file as a source: its weights, configuration, tokenizer and model."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.configuration import check_config, check_layer_counts, read_config
from layer_decoding.models.gguf.tensors import FREQUENCIES, converting, scale_frequencies
from layer_decoding.models.gguf.tokenizer import build_tokenizer
from layer_decoding.models.sizes import text_config
from layer_decoding.models.tokenizer import read_tokenizer
from layer_decoding.models.weights import Blueprint, Tensor, Weights, build, refuse_left_over

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SUFFIX = ".gguf"
_NOT_YET = "not supported yet"  # transformers, of an architecture or a type of number
PACKAGES = ("gguf", "accelerate")


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file, and the name that its model was asked for by."""

    path: Path
    name: str
    revision: ClassVar[None] = None

    def check_is_there(self) -> None:
        """Refuse a path that is no file."""
        if not self.path.is_file():
            raise LayerDecodingError(
                f"There is no file {self.path}; check the path, or give a Hub name, or mini for the bundled model.",
                settings=("model",),
            )

    def read_weights(self) -> Weights:
        """The weights, by the file's header; refused where it is not whole, or cannot be read here."""
        _check_packages(self.path)
        header = _header(self.path)
        _check_is_whole(self.path)
        end = max((header.data_start + info.offset + info.nbytes for info in header.tensors), default=0)
        size = self.path.stat().st_size
        if not header.tensors:
            raise LayerDecodingError(
                f"{self.path} holds no weights, only a vocabulary or settings; give the file that holds the model."
            )
        if size < end:
            raise LayerDecodingError(
                f"{self.path} has {size:,} bytes and its header tells of {end:,}, so it is cut short; copy it again."
            )
        # Quantized weights are computed with in floating point; none of its types is theirs by right.
        dtype = "float16" if header.dtype is None else str(header.dtype).removeprefix("torch.")
        return Weights((self.path,), {info.name: Tensor("F32", info.shape) for info in header.tensors}, dtype)

    def read_config(self) -> "PreTrainedConfig":
        """The configuration by the file's metadata, known to be that of a causal decoder with attention blocks."""
        check_layer_counts({"num_layers": _read_metadata(self.path).get("block_count")}, self.path)
        config = read_config(self.path.parent, self.path, **self._options)
        _set_sizes(config, self.path)
        check_config(config, self.path)
        return config

    def read_tokenizer(self, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
        """The tokenizer by the file's metadata, checked against the vocabulary of `config`."""
        return read_tokenizer(lambda: build_tokenizer(self.path), self.path, config)

    def read_model(self, blueprint: Blueprint) -> "PreTrainedModel":
        """The model with every weight from the file."""
        model, is_unscaled = self.build(blueprint)
        if is_unscaled:
            scale_frequencies(model, self.path)
        return model

    def build(self, blueprint: Blueprint) -> "tuple[PreTrainedModel, bool]":
        """What `read_model` returns, and whether factors for its rotary positions are in the file, still to apply."""
        dropped: list[str] = []
        with converting(dropped):
            model = build(self.path, blueprint, **self._options)
        refuse_left_over([name for name in dropped if name != FREQUENCIES], blueprint.weights, self.path)
        return model, FREQUENCIES in dropped

    @property
    def _options(self) -> dict[str, str]:
        """What transformers has to be told to find the model in the file's folder."""
        return {"gguf_file": self.path.name}


def _check_packages(file: Path) -> None:
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise LayerDecodingError(
            f"{file} is a GGUF file, and {' and '.join(missing)} to read it with are not installed; run pip install"
            f" {' '.join(PACKAGES)}."
        )


def _check_is_whole(file: Path) -> None:
    """Refuse a part of a model that was split over several files."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    parts = metadata.get("split.count", 1)
    if parts > 1:
        raise LayerDecodingError(
            f"{file} is part {metadata.get('split.no', 0) + 1} of {parts} of a model; join them with llama.cpp's"
            " llama-gguf-split --merge and give the file that it writes."
        )


def _header(file: Path) -> Any:
    from transformers.integrations.gguf.reader import GgufHeader

    try:
        return GgufHeader.from_file(str(file))
    except Exception as error:
        if _NOT_YET in str(error):
            raise LayerDecodingError(
                f"{file} is quantised in a way that transformers cannot read ({brief(error)}); take another"
                " quantisation of the model."
            ) from error
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(
            f"{file} ({size}) is no GGUF file that can be read ({brief(error)}); copy it again."
        ) from error


def _read_metadata(file: Path) -> dict[str, Any]:
    """What the file says of its architecture, without the architecture's name before each key."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    prefix = f"{metadata['general.architecture']}."
    return {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}


def _set_sizes(config: Any, file: Path) -> None:
    """Give a configuration what its GGUF file says and transformers drops, for some architectures or for all.

    The context (GPT-2's), the base of rotary positions (StarCoder2's), and that no heads share keys where nothing
    says that any do. A scaling of rotary positions that was dropped is refused.
    """
    said, sizes = _read_metadata(file), text_config(config)
    context = said.get("context_length")
    if context and getattr(sizes, "max_position_embeddings", None) is not None:
        sizes.max_position_embeddings = int(context)
    if "attention.head_count_kv" not in said and hasattr(sizes, "num_key_value_heads"):
        sizes.num_key_value_heads = sizes.num_attention_heads
    rope = getattr(sizes, "rope_parameters", None)
    if not isinstance(rope, dict) or "rope_theta" not in rope:
        return  # none, or several that differ from layer to layer
    if "rope.freq_base" in said:
        rope["rope_theta"] = said["rope.freq_base"]
    scaling = said.get("rope.scaling.type", "none")
    if scaling != "none" and rope.get("rope_type", "default") == "default":
        raise LayerDecodingError(
            f"{file} scales its positions ({scaling}), which transformers leaves out of a model in a GGUF file; take"
            " the model as a folder with config.json and safetensors."
        )
