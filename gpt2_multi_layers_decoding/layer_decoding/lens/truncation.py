"""A model cut off after one of its blocks: the first k blocks, then the final norm and the head."""

import copy
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import UsageError
from layer_decoding.lens.blocks import block_outputs
from layer_decoding.lens.cache import check_copyable, check_separable, new_cache, read_on, refusing
from layer_decoding.lens.lens import Lens, check_near, find_lens
from layer_decoding.lens.sharing import with_modules
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CANNOT_BE_CUT = "{model} cannot be cut after one of its blocks ({error}); use another model, such as mini."


def truncate(model: "PreTrainedModel", layer: int) -> "PreTrainedModel":
    """A view of the model with its first `layer` blocks: same weights, a configuration of its own.

    Works with `generate()` and leaves the model as it was. Setting `config.num_hidden_layers` on a loaded
    GPT-2 instead would leave its cache and its blocks at odds.

    Raises:
        UsageError: a layer outside 0 … L.
        LayerDecodingError: the blocks cannot do without those that are cut off, or only by changing what they say.
    """
    lens = find_lens(model)
    if not 0 <= layer <= lens.layer_count:
        raise UsageError(f"Cannot cut after layer {layer}; this model has layers 1 to {lens.layer_count}.")
    check_copyable(model)
    check_separable(model)
    cut = with_modules(model, {lens.blocks.path: torch.nn.ModuleList(lens.blocks.modules[:layer])})
    _shorten(cut, model.config, lens, layer)
    cut.generation_config = copy.deepcopy(model.generation_config)
    if layer:
        _check_cut(lens, cut, layer)
    return cut


def _shorten(cut: "PreTrainedModel", config: Any, lens: Lens, layer: int) -> None:
    """Give the modules that are the view's own a configuration of `layer` blocks, lists with one entry a block cut."""
    shorter = copy.deepcopy(config)
    text = text_config(shorter)
    for name, value in vars(text).items():
        if isinstance(value, list) and len(value) == lens.layer_count and not name.endswith("token_id"):
            setattr(text, name, value[:layer])
    text.num_hidden_layers = layer
    above: Any = cut
    for part in lens.blocks.path.split("."):
        if getattr(above, "config", None) is not None:
            above.config = shorter if above.config is config else text
        above = above._modules[part]


def _check_cut(lens: Lens, cut: "PreTrainedModel", layer: int) -> None:
    """Compare the cut model, reading two tokens one by one, with the lens on block k of the whole one."""
    tokens = torch.zeros(1, 2, dtype=torch.long, device=device_of(lens.model))
    with torch.inference_mode(), refusing(lens.model, CANNOT_BE_CUT):
        with block_outputs(lens.blocks) as outputs:
            lens.blocks.base(input_ids=tokens, use_cache=False)
        cache = new_cache(cut)
        for token in tokens.split(1, dim=1):
            logits = read_on(cut, token, cache).logits[:, -1]
        check_near(lens, lens.logits(outputs[layer], [layer]), logits, f"cut after block {layer}")
