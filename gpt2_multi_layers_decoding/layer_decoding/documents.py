"""Results as JSON documents: finite numbers or null, stable keys, text beside ids."""

import json
import math
from typing import Any

from layer_decoding.loading import LoadedModel
from layer_decoding.pieces import Pieces
from layer_decoding.results import LayerDecoding, LayerRow


def greedy_document(decoding: LayerDecoding, prompt: str, loaded: LoadedModel, pieces: Pieces) -> dict[str, Any]:
    """The greedy script's document, schema layer-decoding/greedy/1."""
    return {
        **document_head("greedy", loaded, decoding.layer_count, prompt, decoding.prompt_ids, decoding.max_new_tokens),
        "context": decoding.context,
        "settles_at": decoding.settles_at,
        "rows": [_row(row, decoding, pieces) for row in decoding.rows],
    }


def document_head(
    kind: str,
    loaded: LoadedModel,
    layer_count: int,
    prompt: str | None = None,
    prompt_ids: tuple[int, ...] = (),
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """What every document begins with: where the numbers come from. Without a prompt nothing was written."""
    import torch
    import transformers

    import layer_decoding

    return {
        "schema": f"layer-decoding/{kind}/1",
        "versions": {
            "program": layer_decoding.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "revision": loaded.revision,
        },
        "model": loaded.name,
        "device": loaded.device,
        "dtype": loaded.dtype,
        "layer_count": layer_count,
        "prompt": None if prompt is None else {"text": prompt, "ids": prompt_ids},
        "max_new_tokens": max_new_tokens,
    }


def to_json(document: dict[str, Any]) -> str:
    """A document as one line of JSON, ASCII only; what is not a finite number becomes null."""
    return json.dumps(_finite(document), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _row(row: LayerRow, decoding: LayerDecoding, pieces: Pieces) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "text": pieces.text(row.ids),
        "ids": row.ids,
        "tokens": pieces.of(row.ids),
        "finished": row.finished,
        "agrees": decoding.agrees(row),
        "logprob_nats": row.logprob_nats,
        "entropy_bits": row.entropy_bits,
        "kl_to_final_bits": row.kl_to_final_bits,
        "final_token_rank": row.final_token_rank,
        "candidates": row.candidates
        and [
            [{"id": c.id, "token": pieces.of([c.id])[0], "probability": c.probability} for c in step]
            for step in row.candidates
        ],
    }
