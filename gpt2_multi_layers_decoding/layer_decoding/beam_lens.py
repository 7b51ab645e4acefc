"""What each layer would have said at every step of a given text: its likeliest next token, by the logit lens.

Teacher-forced: one pass over the whole text. Only block outputs are kept, and they go through the lens a few
hundred rows at a time, so that nothing of size layers × positions × vocabulary is ever there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.beam_results import LensRow
from layer_decoding.lens import check_lens, find_lens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGIT_ROWS = 256


def layer_choices(model: "PreTrainedModel", prompt_ids: Sequence[int], ids: Sequence[int]) -> tuple[LensRow, ...]:
    """For layers 1 … L: the likeliest next token before each of the T tokens of a text, [T] a layer.

    Raises:
        LayerDecodingError: the lens does not reproduce the model's own logits.
    """
    lens = find_lens(model)
    kept: dict[int, torch.Tensor] = {}  # layer -> hidden [T, D]

    def keep(layer: int) -> torch.utils.hooks.RemovableHandle:
        def hook(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> None:
            kept[layer] = output[0, -len(ids) :]

        return lens.blocks[layer - 1].register_forward_hook(hook)

    handles = [keep(layer) for layer in range(1, lens.layer_count + 1)]
    try:
        with torch.inference_mode():
            inputs = torch.tensor([[*prompt_ids, *ids[:-1]]], device=model.device)
            answer = model(input_ids=inputs, use_cache=False, logits_to_keep=1)
            check_lens(lens, kept[lens.layer_count][-1:], answer.logits[:, -1])
            hidden = torch.cat([kept[layer] for layer in sorted(kept)])  # [L · T, D]
            tops = torch.cat([lens.logits(rows).argmax(1) for rows in hidden.split(_LOGIT_ROWS)])
    finally:
        for handle in handles:
            handle.remove()
    table = tops.view(lens.layer_count, len(ids)).tolist()
    return tuple(LensRow(layer, tuple(row)) for layer, row in enumerate(table, 1))
