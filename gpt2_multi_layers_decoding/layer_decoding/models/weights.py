"""The weights of a model: what their files hold, by their headers alone, and whether they are those of its config."""

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Weights:
    """The `files` of a model's weights, how many numbers they hold, and the dtype that most of those have."""

    files: tuple[Path, ...]
    parameter_count: int
    dtype: str


def read_headers(files: list[Path]) -> Weights:
    """What safetensors files hold, with every file's header and length checked; no tensor is read."""
    count: Counter[str] = Counter()
    for file in files:
        count.update(_count_by_dtype(file))
    if not count.total():
        raise LayerDecodingError(f"{files[0]} holds no weights at all; copy it again.")
    return Weights(tuple(files), count.total(), _DTYPES.get(count.most_common(1)[0][0], "float32"))


def _count_by_dtype(file: Path) -> Counter[str]:
    """How many numbers of each safetensors dtype `file` holds, from its header."""
    from safetensors import SafetensorError, safe_open

    count: Counter[str] = Counter()
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict, it cannot be iterated
                tensor = tensors.get_slice(name)
                count[tensor.get_dtype()] += prod(tensor.get_shape())
    except (SafetensorError, OSError) as error:
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(f"{file} ({size}) is damaged or cut short ({brief(error)}); copy it again.") from error
    return count


def build(
    folder: Path,
    config: "PreTrainedConfig",
    dtype: str,
    device_map: str | dict[str, str | int] | None,
    **options: Any,
) -> "PreTrainedModel":
    """The model of `config` in evaluation mode with the weights in `folder`; refused where they are not those of it.

    transformers' own loading, asked for its report of what did not fit instead of its exception for some of it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if device_map is not None:
        options["device_map"] = device_map
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    model: PreTrainedModel
    model, info = loaded
    _check_match(info, config, folder)
    return model


def _check_match(info: dict[str, Any], config: "PreTrainedConfig", folder: Path) -> None:
    """Refuse weights that are not those of `config`: transformers would fill what is missing with random numbers.

    `info` is the loading information of ``from_pretrained``, from which it has already left out what may be missing
    (a tied ``lm_head``) or left over (``attn.bias``, a buffer of older checkpoints).
    """
    problem = _mismatch(info, text_config(config).num_hidden_layers)
    if problem:
        raise LayerDecodingError(
            f"The weights in {folder} do not match its config.json: {problem}; restore the original pair of files."
        )


def _mismatch(info: dict[str, Any], layer_count: int) -> str | None:
    """The first thing that does not fit, with its numbers; None when everything does."""
    if info["mismatched_keys"]:
        # a matrix says more than a bias
        name, in_file, in_model = min(info["mismatched_keys"], key=lambda mismatch: (-len(mismatch[1]), mismatch[0]))
        return f"{name} is {_shape(in_file)} in the file and {_shape(in_model)} by the config"
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        return f"{len(missing)} of the tensors it asks for are missing, first {missing[0]}"
    # A left-over tensor may be harmless (a value head), a left-over block is a model that was cut short.
    extra = sorted(key for key in info["unexpected_keys"] if _block_number(key) >= layer_count)
    if extra:
        return f"it asks for {layer_count} layers, but the weights go on with {extra[0]}"
    return None


def _shape(size: tuple[int, ...]) -> str:
    return " × ".join(str(length) for length in size)


def _block_number(key: str) -> int:
    """The first number among the dotted parts of a tensor's name, counted from 0; -1 without one."""
    return next((int(part) for part in key.split(".") if part.isdecimal()), -1)
