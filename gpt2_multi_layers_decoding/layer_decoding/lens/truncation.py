"""A model cut off after one of its blocks: the first k blocks, then the final norm and the head.

Under a fitted lens the map of layer k stands behind block k, so that the model goes on through it.
"""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import UsageError
from layer_decoding.lens.blocks import block_outputs, hidden_output, with_hidden
from layer_decoding.lens.cache import check_copyable, check_separable, new_cache, read_on, refusing
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.lens import Lens, check_near, find_lens
from layer_decoding.lens.sharing import shallow_copy, with_modules
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CANNOT_BE_CUT = "{model} cannot be cut after one of its blocks ({error}); use another model, such as mini."


def truncate(model: "PreTrainedModel", layer: int, lens: FittedLens | None = None) -> "PreTrainedModel":
    """A view of the model with its first `layer` blocks: same weights, a configuration of its own.

    Works with `generate()` and leaves the model as it was. Setting `config.num_hidden_layers` on a loaded
    GPT-2 instead would leave its cache and its blocks at odds. With a fitted lens it says what that predicts.

    Raises:
        UsageError: a layer outside 0 … L, or without a map.
        LayerDecodingError: the blocks cannot do without those that are cut off, or only by changing what they say;
            or the lens is another model's.
    """
    found = find_lens(model, lens)
    if not 0 <= layer <= found.layer_count:
        raise UsageError(f"Cannot cut after layer {layer}; this model has layers 1 to {found.layer_count}.")
    found.check_layers([layer])
    check_copyable(model)
    check_separable(model)
    cut = _cut(found, layer)
    _shorten(cut, model.config, found, layer)
    cut.generation_config = copy.deepcopy(model.generation_config)
    if layer:
        _check_cut(found, cut, layer)
    return cut


def _cut(lens: Lens, layer: int) -> "PreTrainedModel":
    """The model with its first blocks alone, and behind the last of them the map of the lens, if it has one there."""
    kept = list(lens.blocks.modules[:layer])
    fitted = lens.fitted if layer < lens.layer_count else None
    if fitted is not None:
        if not kept:
            raise UsageError(
                f"The {fitted.name} lens cannot stand before the first block; choose layers from 1 on.",
                settings=["layers", "lens"],
            )
        kept[-1] = shallow_copy(kept[-1])
        kept[-1].register_forward_hook(_translating(fitted, layer))
    cut = with_modules(lens.model, {lens.blocks.path: torch.nn.ModuleList(kept)})
    if fitted is not None:
        cut.register_forward_hook(_scaling(fitted, layer))
    return cut


def _translating(fitted: FittedLens, layer: int) -> Callable[..., Any]:
    """A hook after block k: hidden states [B, S, D] in the last layer's basis."""

    def hook(_module: torch.nn.Module, _args: object, output: Any) -> Any:
        hidden = hidden_output(output)
        rows = hidden.flatten(0, 1)
        return with_hidden(output, fitted.translate(rows, [layer] * len(rows)).view_as(hidden))

    return hook


def _scaling(fitted: FittedLens, layer: int) -> Callable[..., Any]:
    """A hook after the model: logits [B, S, V] as the lens scales them."""

    def hook(_module: torch.nn.Module, _args: object, answer: Any) -> Any:
        rows = answer.logits.flatten(0, 1)
        answer.logits = fitted.scale(rows, [layer] * len(rows)).view_as(answer.logits).to(answer.logits.dtype)
        return answer

    return hook


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
