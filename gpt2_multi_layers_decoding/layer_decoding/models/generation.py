"""`model.generate` with nothing but what was asked for.

transformers fills every setting that a call leaves open from `model.generation_config`, even when a
GenerationConfig is passed: a checkpoint's repetition penalty or top-k would reach every result unseen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


# What a neutral configuration keeps, and fields that say nothing about which tokens are chosen.
_KEPT = {"eos_token_id", "pad_token_id", "bos_token_id"}
_SILENT = {"transformers_version", "_from_model_config", "use_cache", "output_attentions", "output_hidden_states"}


def end_ids(model: "PreTrainedModel") -> list[int]:
    """The ids that end a text: end-of-text, as the generation settings or else the configuration name it."""
    end = getattr(model.generation_config, "eos_token_id", None)
    if end is None:
        end = getattr(model.config, "eos_token_id", None)
    return [] if end is None else [end] if isinstance(end, int) else list(end)


def neutral_settings(model: "PreTrainedModel") -> "GenerationConfig":
    """A generation configuration with the model's end-of-text and padding ids only."""
    from transformers.generation.configuration_utils import GenerationConfig

    ends = end_ids(model)
    pad = getattr(model.generation_config, "pad_token_id", None)
    if pad is None and ends:
        pad = ends[0]
    return GenerationConfig(eos_token_id=ends or None, pad_token_id=pad)


@contextmanager
def neutral_generation(model: "PreTrainedModel") -> Iterator[None]:
    """While open, `model.generate` knows no settings of the model's own but the ids that end and pad a text."""
    shipped = model.generation_config
    model.generation_config = neutral_settings(model)
    try:
        yield
    finally:
        model.generation_config = shipped


def settings_set_aside(model: "PreTrainedModel") -> dict[str, object]:
    """The settings that a model ships and this project does not follow: {name: value}."""
    shipped = model.generation_config.to_diff_dict()
    defaults = type(model.generation_config)._get_default_generation_params()
    return {
        name: value
        for name, value in sorted(shipped.items())
        if name not in _KEPT | _SILENT and value is not None and defaults.get(name) != value
    }
