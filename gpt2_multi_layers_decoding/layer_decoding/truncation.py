"""A model cut off after one of its blocks: the first k blocks, then the final norm and the head."""

import copy
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import UsageError
from layer_decoding.lens import find_lens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def truncate(model: "PreTrainedModel", layer: int) -> "PreTrainedModel":
    """A view of the model with its first `layer` blocks: same weights, a configuration of its own.

    Works with `generate()` and leaves the model as it was. Setting `config.num_hidden_layers` on a loaded
    GPT-2 instead would leave its cache and its blocks at odds.

    Raises:
        UsageError: a layer outside 0 … L.
    """
    lens = find_lens(model)
    if not 0 <= layer <= lens.layer_count:
        raise UsageError(f"Cannot cut after layer {layer}; this model has layers 1 to {lens.layer_count}.")
    base = _shallow_copy(lens.base)
    view: PreTrainedModel = _shallow_copy(model)
    base._modules[lens.blocks_name] = torch.nn.ModuleList(lens.blocks[:layer])
    view._modules[model.base_model_prefix] = base
    view.config = base.config = _shorter(model.config, layer)
    view.generation_config = copy.deepcopy(model.generation_config)
    return view


def _shallow_copy(module: Any) -> Any:
    """A module that shares parameters and children with another, but not the tables that name them."""
    twin = copy.copy(module)
    for table in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[table] = dict(module.__dict__[table])
    return twin


def _shorter(config: Any, layer: int) -> Any:
    """A configuration of the first `layer` blocks, per-layer lists cut too."""
    shorter = copy.deepcopy(config)
    shorter.num_hidden_layers = layer
    if getattr(shorter, "layer_types", None):
        shorter.layer_types = shorter.layer_types[:layer]
    return shorter
