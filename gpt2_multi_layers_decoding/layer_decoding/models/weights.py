"""The weights of a model: what their files hold, by their headers, and that every number of both ends in the model."""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Left over and harmless. The causal mask of older models is told from a bias that was learned by its four dimensions.
_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|attn_rot_embd|position_ids|\.masked_bias)$")
_MASKS = re.compile(r"attn\.(attention\.)?bias$|attention\.bias$")
_OTHER_HEADS = re.compile(
    r"(^|\.)(v_head|value_head|score|classifier|multiple_choice_head|qa_outputs|seq_relationship|pooler|mtp)\."
)
_OTHER_SENSES = re.compile(r"^(model\.)?(vision_tower|vision_model|visual|audio_tower|multi_modal_projector)\.")
_QUANTISED = re.compile(r"scale|zero|qweight|g_idx|absmax|quant|packed|amax", re.IGNORECASE)
_MUCH_MORE = 4  # times as many numbers as there are in the files: nothing that a missing tensor would explain


class Tensor(NamedTuple):
    """One entry of a file's header: the safetensors dtype, "F16" say, and the shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """The `files` of a model's weights, their `tensors` by name, and the dtype that most of the numbers have."""

    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    dtype: str

    @property
    def parameter_count(self) -> int:
        """How many numbers the files hold."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())


@dataclass(frozen=True)
class Blueprint:
    """What a model is built of: its configuration and weights; in which dtype; placed by a device map, if any."""

    config: "PreTrainedConfig"
    weights: Weights
    dtype: str
    device_map: str | dict[str, str | int] | None = None


def read_headers(files: list[Path]) -> Weights:
    """What safetensors files hold, with every file's header and length checked; no tensor is read."""
    tensors = {name: tensor for file in files for name, tensor in _read_header(file).items()}
    count: Counter[str] = Counter()
    for tensor in tensors.values():
        count[tensor.dtype] += prod(tensor.shape)
    if not count.total():
        raise LayerDecodingError(f"{files[0]} holds no weights at all; copy it again.")
    return Weights(tuple(files), tensors, _DTYPES.get(count.most_common(1)[0][0], "float32"))


def _read_header(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - it is no dict
            return {name: Tensor(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(f"{file} ({size}) is damaged or cut short ({brief(error)}); copy it again.") from error


def build(place: Path, blueprint: Blueprint, **options: Any) -> "PreTrainedModel":
    """The model in evaluation mode with the weights in `place`; refused where they are not those of its configuration.

    transformers' own loading, asked for its report of what did not fit instead of its exception for some of it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    weights, config = blueprint.weights, blueprint.config
    _check_sizes(weights, config, place)
    if blueprint.device_map is not None:
        options["device_map"] = blueprint.device_map
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        place if place.is_dir() else place.parent,
        config=config,
        dtype=getattr(torch, blueprint.dtype),
        local_files_only=True,
        trust_remote_code=False,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **options,
    )
    model: PreTrainedModel
    model, info = loaded
    _refuse(_mismatch(info, text_config(config).num_hidden_layers), place)
    refuse_left_over(info["unexpected_keys"], weights, place)
    if getattr(config, "quantization_config", None) is None:
        _refuse(_whole_numbers(model, weights), place)
    return model


def _refuse(problem: str | None, place: Path) -> None:
    if problem:
        raise LayerDecodingError(
            f"The weights in {place} do not match its config.json: {problem}; restore the original pair of files."
        )


def _check_sizes(weights: Weights, config: "PreTrainedConfig", place: Path) -> None:
    """Refuse a configuration of far more than the files hold, before a model of that size is built and filled."""
    import torch
    from transformers import AutoModelForCausalLM

    layers, tensors = text_config(config).num_hidden_layers, len(weights.tensors)
    if layers > tensors:
        _refuse(f"it asks for {layers:,} layers, and they hold {tensors:,} tensors", place)
    if getattr(config, "quantization_config", None) is not None:
        return  # several numbers are packed in one
    with torch.device("meta"):
        asked = AutoModelForCausalLM.from_config(config).num_parameters()
    if asked > _MUCH_MORE * weights.parameter_count:
        _refuse(f"it asks for {asked:,} numbers, and they hold {weights.parameter_count:,}", place)


def _mismatch(info: dict[str, Any], layer_count: int) -> str | None:
    """The first thing that does not fit, with its numbers; None when everything does.

    `info` is the loading information of ``from_pretrained``, from which it has already left out what may be missing
    (a tied ``lm_head``) or left over (``attn.bias``, a buffer of older checkpoints). What is missing it has filled
    with random numbers.
    """
    if info["mismatched_keys"]:
        # a matrix says more than a bias
        name, in_file, in_model = min(info["mismatched_keys"], key=lambda mismatch: (-len(mismatch[1]), mismatch[0]))
        return f"{name} is {_shape(in_file)} in the file and {_shape(in_model)} by the config"
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        return f"{len(missing)} of the tensors it asks for are missing, first {missing[0]}"
    extra = sorted(key for key in info["unexpected_keys"] if _block_number(key) >= layer_count)
    if extra:
        return f"it asks for {layer_count} layers, but the weights go on with {extra[0]}"
    return None


def _shape(size: tuple[int, ...]) -> str:
    return " × ".join(str(length) for length in size)


def _block_number(key: str) -> int:
    """The first number among the dotted parts of a tensor's name, counted from 0; -1 without one."""
    return next((int(part) for part in key.split(".") if part.isdecimal()), -1)


def refuse_left_over(names: "list[str] | set[str]", weights: Weights, place: Path) -> None:
    """Refuse tensors of the file that no part of the model takes, unless they are known to be of no account.

    A factor that belongs to quantised weights, say: the model would run without it, and every number be wrong.
    """
    left = sorted(name for name in names if not _is_harmless(name, weights))
    if not left:
        return
    advice = "take a checkpoint that transformers reads to the end"
    if _QUANTISED.search(left[0].rpartition(".")[2]):
        advice = "its weights are quantised in a way that its config does not name, so take one in 16 or 32 bits"
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    raise LayerDecodingError(
        f"The weights in {place} hold {left[0]}{more}, for which the model has no place; {advice}."
    )


def _is_harmless(name: str, weights: Weights) -> bool:
    """Whether a tensor is a buffer that is computed anew, or a part of the checkpoint that no text goes through."""
    if _MASKS.search(name):
        tensor = _find(name, weights)
        return tensor is not None and len(tensor.shape) == 4
    return any(known.search(name) for known in (_BUFFERS, _OTHER_HEADS, _OTHER_SENSES))


def _find(name: str, weights: Weights) -> Tensor | None:
    """The tensor that is called `name` in the model, and there perhaps without the model's prefix."""
    return next((tensor for key, tensor in weights.tensors.items() if _same(key, name)), None)


def _same(in_file: str, in_model: str) -> bool:
    return in_file == in_model or in_model.endswith(f".{in_file}") or in_file.endswith(f".{in_model}")


def _whole_numbers(model: "PreTrainedModel", weights: Weights) -> str | None:
    """A tensor that the file holds in whole numbers and the model computes with in fractions; None without one."""
    whole = {
        name: tensor for name, tensor in weights.tensors.items() if tensor.dtype[0] in "IUB" and tensor.dtype != "BF16"
    }
    if not whole:
        return None
    fractions = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    for name, tensor in whole.items():
        if any(_same(name, key) for key in fractions):
            return f"{name} is {tensor.dtype}, whole numbers, in the file, and fractions in the model"
    return None
