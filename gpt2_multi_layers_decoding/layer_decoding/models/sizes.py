"""What a model can be asked: its sizes, prompts, ids and layers within them, and the memory that a batch needs.

On Linux a process that takes too much memory is killed without a word, so what cannot fit is refused beforehand.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.layers import HalfStep, Layer
from layer_decoding.models.devices import device_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def text_config(config: "PreTrainedConfig") -> Any:
    """The part of a configuration that describes the text decoder; all of it where there is not one such part."""
    try:
        return config.get_text_config(decoder=True)
    except ValueError:
        return config


def layer_count(model: "PreTrainedModel") -> int:
    """L, the number of blocks."""
    return int(text_config(model.config).num_hidden_layers)


def vocabulary_size(model: "PreTrainedModel") -> int:
    """V, the number of tokens that a model tells apart."""
    return int(text_config(model.config).vocab_size)


def context_length(model: "PreTrainedModel") -> int | None:
    """How many tokens the model's context holds; None for positions without a table (ALiBi): any number."""
    context: int | None = getattr(text_config(model.config), "max_position_embeddings", None)
    return context


def check_lengths(model: "PreTrainedModel", prompt_ids: list[int], max_new_tokens: int) -> None:
    """Refuse an empty prompt, no new tokens, and more tokens than the model's context holds.

    Raises:
        UsageError: with the numbers and what to change.
    """
    if not prompt_ids:
        raise UsageError("The prompt is empty; give some text, or '<|endoftext|>' to let the model start by itself.")
    if max_new_tokens < 1:
        raise UsageError(f"The number of new tokens is {max_new_tokens}; it must be at least 1.")
    check_switches(model, len(prompt_ids), max_new_tokens)
    context = context_length(model)
    if context is None:
        return
    if len(prompt_ids) >= context:
        raise UsageError(
            f"The prompt has {len(prompt_ids)} tokens and the model's context holds {context}; "
            f"shorten it to at most {context - 1} tokens, or keep only its end.",
            settings=["truncate_prompt"],
        )
    if len(prompt_ids) + max_new_tokens > context:
        raise UsageError(
            f"{len(prompt_ids)} prompt tokens and {max_new_tokens} new ones are more than the {context} of the "
            f"model's context; ask for at most {context - len(prompt_ids)} new tokens, or keep only the prompt's end.",
            settings=["max_new_tokens", "truncate_prompt"],
        )


def check_switches(model: "PreTrainedModel", prompt: int, new: int) -> None:
    """Refuse a text that grows past a length beyond which the model places all its tokens anew.

    Rotary positions of the type "longrope" are other ones, for every token, where a text is longer than what the model
    was first trained on. What a cache holds of the tokens before is then out of date: some families drop it there,
    others go on with both kinds, and neither says what one pass over the text says. ("dynamic" ones change only
    beyond the context.)
    """
    for length in _switching_lengths(model):
        if prompt <= length < prompt + new - 1:  # the last new token is not read
            raise UsageError(
                f"{prompt} prompt tokens and {new} new ones cross the length of {length} beyond which this model places"
                f" all tokens anew; ask for at most {length - prompt + 1} new tokens, or give a prompt of more than "
                f"{length} tokens.",
                settings=("max_new_tokens",),
            )


def _switching_lengths(model: "PreTrainedModel") -> list[int]:
    """The lengths at which rotary positions change, whether all layers have the same or each kind its own."""
    parameters = getattr(text_config(model.config), "rope_parameters", None) or {}
    kinds = [kind for kind in (parameters, *parameters.values()) if isinstance(kind, dict)]
    return [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]


def check_ids(model: "PreTrainedModel", ids: Sequence[int]) -> None:
    """Refuse ids that the model has no embedding for."""
    vocabulary = vocabulary_size(model)
    unknown = [token for token in ids if not 0 <= token < vocabulary]
    if unknown:
        raise UsageError(f"Token id {unknown[0]} is not in the model's vocabulary of {vocabulary} tokens.")


def select_layers(layers: Sequence[Layer] | None, layer_count: int) -> list[Layer]:
    """The rows to show: layers sorted, each once, the last always among them; None is all blocks.

    Raises:
        UsageError: a layer below 0 or above the model's last.
    """
    if layers is None:
        return list(range(1, layer_count + 1))
    beyond = sorted({layer for layer in layers if not 0 <= layer <= layer_count})
    if beyond:
        raise UsageError(
            f"Layer {', '.join(map(str, beyond))} is out of range; this model has layers 1 to {layer_count} "
            "(0 is the embeddings)."
        )
    return sorted({*layers, layer_count})


def select_cuts(layers: Sequence[Layer] | None, layer_count: int) -> list[int]:
    """The blocks after which to cut the model, as `select_layers`.

    Raises:
        UsageError: also a half step, inside a block.
    """
    selected = select_layers(layers, layer_count)
    inside = [layer for layer in selected if isinstance(layer, HalfStep)]
    if inside:
        raise UsageError(
            f"Layer {inside[0]} is inside a block, where the model cannot be cut off to write a text of its own; keep"
            " to whole layers.",
            settings=["layers", "sublayers"],
        )
    return [layer for layer in selected if not isinstance(layer, HalfStep)]


_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_IN_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_IN_V2 = ("memory.max", "memory.current", "inactive_file")
_SCORE_COPIES = 4  # of a step's scores [beams, V] in float32: logits, log-probabilities, running sums, sorted


def check_memory(model: "PreTrainedModel", beams: int, tokens: int) -> None:
    """Raise LayerDecodingError if cache and scores alone are more than the memory that is free."""
    free = free_bytes(model)
    if free is not None and cache_bytes(model, beams, tokens) + score_bytes(model, beams) > free:
        raise cache_error(model, beams, tokens)


def cache_bytes(model: "PreTrainedModel", beams: int, tokens: int) -> int:
    """Keys and values: beams × context × layers × width × 2 × bytes a number."""
    return beams * tokens * layer_count(model) * _width(model) * 2 * int(model.dtype.itemsize)


def score_bytes(model: "PreTrainedModel", beams: int) -> int:
    """What a step's scores over the vocabulary take."""
    return beams * vocabulary_size(model) * 4 * _SCORE_COPIES


def cache_error(model: "PreTrainedModel", beams: int, tokens: int) -> LayerDecodingError:
    """What would be needed, how that comes about, and what to try."""
    layers, size = layer_count(model), model.dtype.itemsize
    factors = f"{beams} × {tokens} tokens × {layers} layers × {_width(model)} × 2 × {size} bytes"
    return LayerDecodingError(
        f"The memory on {device_of(model)} is too small for {beams} beams: the cache would need {factors} = "
        f"{_gigabytes(cache_bytes(model, beams, tokens))} and each step's scores "
        f"{_gigabytes(score_bytes(model, beams))}; use fewer beams or fewer new tokens.",
        settings=("num_beams", "max_new_tokens"),
    )


def free_bytes(model: "PreTrainedModel") -> int | None:
    """The memory that is free where the model is, as far as that can be asked."""
    import torch

    if device_of(model).type == "cuda":
        return int(torch.cuda.mem_get_info(device_of(model))[0])
    if device_of(model).type != "cpu":
        return None
    return free_host_bytes()


def free_host_bytes() -> int | None:
    """The memory of the machine that this process may still take, as far as that can be asked."""
    return min((free for free in (_free_on_host(), *_free_in_groups()) if free is not None), default=None)


def _free_on_host() -> int | None:
    """The memory of the machine that is free, or all of it where only that is known."""
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
        return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")


def _free_in_groups() -> Iterator[int]:
    """What each of Linux's control groups leaves that this process is in, which is how a container is limited.

    The limit of a group holds for all groups below it. A container may see its own group as the root, so that the
    root is looked at whatever path the process is said to have.
    """
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root, files = (_GROUPS, _IN_V2) if number == "0" else (_GROUPS / "memory", _IN_V1)
        group = PurePosixPath(path.lstrip("/"))
        for folder in (root / above for above in (group, *group.parents)):
            with suppress(OSError, ValueError, StopIteration):  # not a group, or one without a limit
                yield _free_in(folder, *files)


def _free_in(group: Path, limit: str, used: str, unused_cache: str) -> int:
    """The limit of a group less what it holds, of which files that were read but are not in use can be let go."""
    lines = (group / "memory.stat").read_text().splitlines()
    cache = next(int(line.split()[1]) for line in lines if line.startswith(f"{unused_cache} "))
    return max(0, int((group / limit).read_text()) - int((group / used).read_text()) + cache)


def _width(model: "PreTrainedModel") -> int:
    """Numbers a token has in one layer's keys: the hidden width, or less where heads share them."""
    config = text_config(model.config)
    try:
        heads = config.num_attention_heads
        of_keys = getattr(config, "num_key_value_heads", None) or heads
        return int((getattr(config, "head_dim", None) or config.hidden_size // heads) * of_keys)
    except (ValueError, RuntimeError):  # differs from block to block
        return int(config.hidden_size)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
