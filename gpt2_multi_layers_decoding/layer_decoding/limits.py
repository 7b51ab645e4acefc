"""What can be asked of a model: its sizes, and prompts, ids and layers that are within them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import UsageError

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
    context = context_length(model)
    if context is None:
        return
    if len(prompt_ids) >= context:
        raise UsageError(
            f"The prompt has {len(prompt_ids)} tokens and the model's context holds {context}; "
            f"shorten it to at most {context - 1} tokens."
        )
    if len(prompt_ids) + max_new_tokens > context:
        raise UsageError(
            f"{len(prompt_ids)} prompt tokens and {max_new_tokens} new ones are more than the {context} of the "
            f"model's context; ask for at most {context - len(prompt_ids)} new tokens."
        )


def check_ids(model: "PreTrainedModel", ids: Sequence[int]) -> None:
    """Refuse ids that the model has no embedding for."""
    vocabulary = vocabulary_size(model)
    unknown = [token for token in ids if not 0 <= token < vocabulary]
    if unknown:
        raise UsageError(f"Token id {unknown[0]} is not in the model's vocabulary of {vocabulary} tokens.")


def select_layers(layers: Sequence[int] | None, layer_count: int) -> list[int]:
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
