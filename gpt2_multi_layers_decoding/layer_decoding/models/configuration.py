"""The configuration of a model: read, and refused where it is not that of a stack of causal attention blocks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


# In transformers' causal mapping, outside its masked-LM mapping, and yet every position attends to all others.
_BIDIRECTIONAL = frozenset({"bert-generation", "xlnet"})
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 100_000  # some configurations make a list of them
_WANTED = "a layer-by-layer view needs a causal decoder such as gpt2 or llama"


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; anything else is refused."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LayerDecodingError(f"{file} cannot be read ({brief(error)}); restore the original.") from error
    if not isinstance(document, dict):
        raise LayerDecodingError(f"{file} holds no JSON object; restore the original.")
    return document


def read_config(folder: Path, file: Path, **options: str) -> "PreTrainedConfig":
    """The configuration that transformers makes of `file` in `folder`, whatever it describes."""
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:
        advice = "restore the original"
        if "not supported" in str(error):
            advice = "take the model as a folder with config.json and safetensors, of a type that transformers knows"
        raise LayerDecodingError(f"{file} cannot be used ({brief(error)}); {advice}.") from error
    return config


def check_config(config: "PreTrainedConfig", file: Path) -> None:
    """Refuse a configuration that is not that of a causal decoder with attention blocks, of possible sizes."""
    _check_decoder(config, file)
    _check_sizes(config, file)


def check_layer_counts(document: dict[str, Any], file: Path) -> None:
    """Refuse a number of layers that no model has, before a configuration is made of it."""
    for name, value in document.items():
        if isinstance(value, dict):
            check_layer_counts(value, file)
        elif name in _LAYER_COUNTS and isinstance(value, int) and value > _MOST_LAYERS:
            raise LayerDecodingError(f"{file} gives {name} as {value:,}, which is impossible; restore the original.")


def check_model_type(document: dict[str, Any], file: Path) -> None:
    """Refuse a config that names no architecture, or one that transformers has no class for."""
    model_type = document.get("model_type")
    if not isinstance(model_type, str):
        raise LayerDecodingError(f'{file} has no "model_type"; restore the original, or add it ("gpt2", say).')
    from transformers import CONFIG_MAPPING, __version__

    if model_type not in CONFIG_MAPPING:
        raise LayerDecodingError(
            f'{file} has model_type "{model_type}", which transformers {__version__} does not know; code shipped with'
            " a model is never run, so use a model of a known type, or a newer transformers."
        )


def _check_decoder(config: "PreTrainedConfig", file: Path) -> None:
    """Refuse what is not a stack of causal attention blocks, by the name of its type.

    ``is_decoder`` is the switch with which transformers turns BERT and its kin into causal models; without it they
    see the whole text, although the causal mapping lists them. State-space models have no attention heads at all.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )

    model_type = config.model_type
    reason = None
    if getattr(config, "is_encoder_decoder", False):
        reason = "an encoder-decoder"
    elif (model_type in MASKED or model_type in _BIDIRECTIONAL) and getattr(config, "is_decoder", None) is not True:
        reason = "an encoder, which reads the whole text at once"
    elif model_type not in CAUSAL:
        reason = "which is no causal language model"
    elif not _has_attention(config):
        reason = "which is not a stack of attention blocks"
    if reason:
        raise LayerDecodingError(f"{file} describes {model_type}, {reason}; {_WANTED}.")


def _has_attention(config: "PreTrainedConfig") -> bool:
    try:
        return getattr(text_config(config), "num_attention_heads", None) is not None
    except ValueError:  # a head count that differs from layer to layer is not to be had as one number
        return True


def _check_sizes(config: "PreTrainedConfig", file: Path) -> None:
    """Refuse sizes with which no model can be built; transformers itself checks no more than their type."""
    sizes = text_config(config)
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "max_position_embeddings"):
        try:
            value = getattr(sizes, name, None)
        except ValueError:  # differs from layer to layer
            continue
        if isinstance(value, int) and value < 1:
            raise LayerDecodingError(f"{file} gives {name} as {value}, which is impossible; restore the original.")
