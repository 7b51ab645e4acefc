"""What each layer would have said at every step of a given text: its likeliest next token, by the logit lens.

Teacher-forced: one pass over the whole text. Only block outputs are kept, and they go through the lens a few
hundred rows at a time, so that nothing of size layers × positions × vocabulary is ever there.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from layer_decoding.beam_results import LensRow
from layer_decoding.devices import device_of
from layer_decoding.lens import block_outputs, check_on, find_lens, stacked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGIT_ROWS = 256


def layer_choices(model: "PreTrainedModel", prompt_ids: Sequence[int], ids: Sequence[int]) -> tuple[LensRow, ...]:
    """For layers 1 … L: the likeliest next token before each of the T tokens of a text, [T] a layer.

    Raises:
        LayerDecodingError: the lens does not reproduce the model's own logits.
    """
    lens = find_lens(model)
    read = [*prompt_ids, *ids[:-1]]
    check_on(lens, read)
    with torch.inference_mode(), block_outputs(lens, slice(-len(ids), None)) as outputs:
        lens.base(input_ids=torch.tensor([read], device=device_of(model)), use_cache=False)
        # [L · T, D]
        hidden = stacked({layer: rows[0] for layer, rows in outputs.items()}, range(1, lens.layer_count + 1))
        tops = torch.cat([lens.logits(rows).argmax(1) for rows in hidden.split(_LOGIT_ROWS)])
    table = tops.view(lens.layer_count, len(ids)).tolist()
    return tuple(LensRow(layer, tuple(row)) for layer, row in enumerate(table, 1))
