"""Results as JSON documents: finite numbers or null, stable keys, text beside ids."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layer_decoding.layers import PLAIN_LENS, Layer, in_files
from layer_decoding.results.beam import BeamSearch, Hypothesis, ScoredText, TraceStep
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import MEASURES, averaged
from layer_decoding.results.sampling import ModelSamples, Sample, Sampling, SamplingRun
from layer_decoding.results.text import LayerSummary, Passage, TextMeasures
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel


def greedy_document(decoding: LayerDecoding, prompt: str, loaded: "LoadedModel", pieces: Pieces) -> dict[str, Any]:
    """The greedy script's document, schema layer-decoding/greedy/1; `text_ids` where the text is not the last row."""
    return {
        **document_head(
            "greedy",
            loaded,
            decoding.layer_count,
            prompt,
            decoding.prompt_ids,
            decoding.max_new_tokens,
            decoding.lens,
        ),
        "context": decoding.context,
        **({} if decoding.is_greedy else {"text_ids": decoding.text_ids}),
        "settles_at": decoding.settles_at and [in_files(layer) for layer in decoding.settles_at],
        "rows": [_row(row, decoding, pieces) for row in decoding.rows],
    }


def why_document(why: Why, prompt: str, loaded: "LoadedModel", pieces: Pieces) -> dict[str, Any]:
    """What every part adds to a token's logit over another's, schema layer-decoding/why/1; `head` where it is one."""
    return {
        **document_head("why", loaded, why.layer_count, prompt, why.prompt_ids, len(why.written_ids) + 1),
        "step": why.step,
        "written_ids": why.written_ids,
        "token": {"id": why.token, "text": pieces.of([why.token])[0]},
        "against": {"id": why.against, "text": pieces.of([why.against])[0]},
        "difference": why.difference,
        "missing": why.missing,
        "soft_cap": why.soft_cap,
        "parts": [
            {"part": part.part, "layer": part.layer}
            | ({} if part.head is None else {"head": part.head})
            | {"logit": part.logit}
            for part in why.parts
        ],
    }


def document_head(
    kind: str,
    loaded: "LoadedModel",
    layer_count: int,
    prompt: str | None = None,
    prompt_ids: tuple[int, ...] = (),
    max_new_tokens: int | None = None,
    lens: str = PLAIN_LENS,
) -> dict[str, Any]:
    """What every document begins with: where the numbers come from. Without a prompt nothing was written.

    `layer_lens`, only where it is not the plain one, is what the layers were read with.
    """
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
        **({} if lens == PLAIN_LENS else {"layer_lens": lens}),
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
        "layer": in_files(row.layer),
        "text": pieces.text(row.ids),
        "ids": row.ids,
        "tokens": pieces.of(row.ids),
        "finished": row.finished,
        "agrees": decoding.agrees(row),
        **{measure.field: getattr(row, measure.field) for measure in MEASURES},
        "candidates": row.candidates
        and [
            [{"id": c.id, "token": pieces.of([c.id])[0], "probability": c.probability} for c in step]
            for step in row.candidates
        ],
    }


def beam_document(
    search: BeamSearch, prompt: str, loaded: "LoadedModel", pieces: Pieces, lens: LayerDecoding | None = None
) -> dict[str, Any]:
    """The beam search script's document; `trace` and `lens` (every layer along rank 1) only if asked for."""
    settings = search.settings
    document = {
        **document_head(
            "beam", loaded, search.layer_count, prompt, search.prompt_ids, settings.max_new_tokens, search.lens
        ),
        "num_beams": settings.num_beams,
        "num_return_sequences": settings.num_return_sequences,
        "length_penalty": settings.length_penalty,
        "no_repeat_ngram_size": settings.no_repeat_ngram_size,
        "greedy": search.greedy and _scored_text(search.greedy, pieces),
        "unrestricted": search.unrestricted and _hypothesis(search.unrestricted, pieces),
        "hypotheses": _hypotheses(search.hypotheses, pieces),
        "layers": [
            {
                "layer": found.layer,
                "greedy": _scored_text(found.greedy, pieces),
                "hypotheses": _hypotheses(found.hypotheses, pieces),
            }
            for found in search.layers
        ],
    }
    if search.trace is not None:
        document["trace"] = [_trace_step(step) for step in search.trace]
    if lens is not None:
        document["lens"] = _lens(lens, pieces)
    return document


def _lens(decoding: LayerDecoding, pieces: Pieces) -> list[dict[str, Any]]:
    """Every layer along a text that was found otherwise; `agrees` is with that text."""
    return [{**_row(row, decoding, pieces), "agrees": decoding.correct(row)} for row in decoding.rows]


def _scored_text(text: ScoredText, pieces: Pieces) -> dict[str, Any]:
    return {
        "ids": text.ids,
        "text": pieces.text(text.ids),
        "tokens": pieces.of(text.ids),
        "logprob_nats": text.logprob_nats,
        "token_logprob_nats": text.token_logprob_nats,
        "finished": text.finished,
    }


def _hypothesis(text: Hypothesis, pieces: Pieces) -> dict[str, Any]:
    return {"rank": text.rank, "score": text.score, **_scored_text(text, pieces)}


def _hypotheses(texts: Sequence[Hypothesis], pieces: Pieces) -> list[dict[str, Any]]:
    return [_hypothesis(text, pieces) for text in texts]


def _trace_step(step: TraceStep) -> dict[str, Any]:
    return {
        "step": step.step,
        "beams": [
            {"ids": beam.ids, "logprob_nats": beam.logprob_nats, "parent": beam.parent, "state": beam.state}
            for beam in step.beams
        ],
    }


def sampling_document(
    run: SamplingRun, prompt: str, loaded: "LoadedModel", pieces: Pieces, lens: LayerDecoding | None = None
) -> dict[str, Any]:
    """The whole run; with layers asked for, `layers` ends with the whole model's, which stands above it too.

    `lens`, every layer along one of the samples, only if asked for.
    """
    document = {
        **document_head("sampling", loaded, run.layer_count, prompt, run.prompt_ids, run.max_new_tokens, run.lens),
        "seed": run.seed,
        **_samples_of_model(run.model, pieces),
        "layers": [{"layer": model.layer, **_samples_of_model(model, pieces)} for model in run.layers],
    }
    if lens is not None:
        document["lens"] = _lens(lens, pieces)
    return document


def _samples_of_model(model: ModelSamples, pieces: Pieces) -> dict[str, Any]:
    return {
        "greedy": _sample(model.greedy, pieces),
        "settings": [_samples_of_setting(sampling, pieces) for sampling in model.samplings],
    }


def _samples_of_setting(sampling: Sampling, pieces: Pieces) -> dict[str, Any]:
    return {
        **vars(sampling.setting),
        "samples": [{"index": sample.index, **_sample(sample, pieces)} for sample in sampling.samples],
    }


def _sample(sample: Sample, pieces: Pieces) -> dict[str, Any]:
    return {
        "ids": sample.ids,
        "text": pieces.text(sample.ids),
        "logprob_nats": sample.logprob_nats,
        "mean_entropy_bits": sample.mean_entropy_bits,
        "distinct_tokens": sample.distinct_tokens,
        "repeated_trigram_share": sample.repeated_trigram_share,
        "finished": sample.finished,
    }


def text_document(
    measures: TextMeasures,
    passage: Passage,
    source: str,
    loaded: "LoadedModel",
    pieces: Pieces,
    compared: Sequence[TextMeasures] = (),
) -> dict[str, Any]:
    """The text script's document; `source` is the file's name, or - for stdin.

    `lenses`, only where several were compared, are the numbers of each; the rest is the first one's.
    """
    several = [
        {"lens": each.lens, "layers": [summary_numbers(summary) for summary in each.layers]} for each in compared
    ]
    return {
        **document_head("text", loaded, measures.layer_count, lens=measures.lens),
        "text": {
            "source": source,
            "token_count": measures.token_count,
            "scored_count": measures.scored_count,
            "window": measures.window,
        },
        "layers": [summary_numbers(summary) for summary in measures.layers],
        **({"lenses": several} if several else {}),
        "passage": _passage(passage, [summary.layer for summary in measures.layers], pieces),
    }


def summary_numbers(summary: LayerSummary) -> dict[str, float | str]:
    """How one layer did over a text, by the names of files: shares, means, and what follows from them."""
    return {
        "layer": in_files(summary.layer),
        "agreeing_share": summary.agreeing_share,
        "correct_share": summary.correct_share,
        **{measure.mean_field: summary.means[measure.field] for measure in averaged()},
        "mean_logprob_nats": summary.mean_logprob_nats,
        "perplexity": summary.perplexity,
        **({} if summary.bias_bits is None else {"bias_bits": summary.bias_bits}),
    }


def _passage(passage: Passage, layers: Sequence[Layer], pieces: Pieces) -> dict[str, Any]:
    return {
        "first": passage.first,
        "ids": passage.ids,
        "tokens": pieces.of(passage.ids),
        "rows": [_prediction_row(layer, passage, pieces) for layer in layers],
    }


def _prediction_row(layer: Layer, passage: Passage, pieces: Pieces) -> dict[str, Any]:
    """A layer's predictions, null where a window begins. Each is a token on its own: they are no running text."""
    ids = passage.predictions(layer)
    return {
        "layer": in_files(layer),
        "ids": ids,
        "tokens": [None if token is None else pieces.of([token])[0] for token in ids],
        "agrees": passage.agrees(layer),
        "correct": passage.correct(layer),
    }
