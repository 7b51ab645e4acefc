"""A beam search as a JSON document, schema layer-decoding/beam/1."""

from collections.abc import Sequence
from typing import Any

from layer_decoding.beam_results import BeamSearch, Hypothesis, ScoredText, TraceStep
from layer_decoding.documents import document_head
from layer_decoding.loading import LoadedModel
from layer_decoding.pieces import Pieces


def beam_document(search: BeamSearch, prompt: str, loaded: LoadedModel, pieces: Pieces) -> dict[str, Any]:
    """The beam search script's document; `trace` and `lens` only if asked for, `unrestricted` null without a rule."""
    settings = search.settings
    document = {
        **document_head("beam", loaded, search.layer_count, prompt, search.prompt_ids, settings.max_new_tokens),
        "num_beams": settings.num_beams,
        "num_return_sequences": settings.num_return_sequences,
        "length_penalty": settings.length_penalty,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "greedy": search.greedy and _text(search.greedy, pieces),
        "unrestricted": search.unrestricted and _hypothesis(search.unrestricted, pieces),
        "hypotheses": _hypotheses(search.hypotheses, pieces),
        "layers": [
            {
                "layer": found.layer,
                "greedy": _text(found.greedy, pieces),
                "hypotheses": _hypotheses(found.hypotheses, pieces),
            }
            for found in search.layers
        ],
    }
    if search.trace is not None:
        document["trace"] = [_step(step) for step in search.trace]
    if search.lens is not None:
        best = search.hypotheses[0].ids
        document["lens"] = [
            {
                "layer": row.layer,
                "ids": row.ids,
                "tokens": pieces.of(row.ids),
                "agrees": [token == wanted for token, wanted in zip(row.ids, best, strict=True)],
            }
            for row in search.lens
        ]
    return document


def _text(text: ScoredText, pieces: Pieces) -> dict[str, Any]:
    return {
        "ids": text.ids,
        "text": pieces.text(text.ids),
        "tokens": pieces.of(text.ids),
        "logprob_nats": text.logprob_nats,
        "token_logprob_nats": text.token_logprob_nats,
        "finished": text.finished,
    }


def _hypothesis(text: Hypothesis, pieces: Pieces) -> dict[str, Any]:
    return {"rank": text.rank, "score": text.score, **_text(text, pieces)}


def _hypotheses(texts: Sequence[Hypothesis], pieces: Pieces) -> list[dict[str, Any]]:
    return [_hypothesis(text, pieces) for text in texts]


def _step(step: TraceStep) -> dict[str, Any]:
    return {
        "step": step.step,
        "beams": [
            {"ids": beam.ids, "logprob_nats": beam.logprob_nats, "parent": beam.parent, "state": beam.state}
            for beam in step.beams
        ],
    }
