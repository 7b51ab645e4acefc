"""A sampling run as a JSON document, schema layer-decoding/sampling/1."""

from typing import Any

from layer_decoding.documents import document_head
from layer_decoding.loading import LoadedModel
from layer_decoding.pieces import Pieces
from layer_decoding.sampling_results import ModelSamples, Sample, Sampling, SamplingRun


def sampling_document(run: SamplingRun, prompt: str, loaded: LoadedModel, pieces: Pieces) -> dict[str, Any]:
    """The whole run; with layers asked for, `layers` ends with the whole model's, which stands above it too."""
    return {
        **document_head("sampling", loaded, run.layer_count, prompt, run.prompt_ids, run.max_new_tokens),
        "seed": run.seed,
        **_model(run.model, pieces),
        "layers": [{"layer": model.layer, **_model(model, pieces)} for model in run.layers],
    }


def _model(model: ModelSamples, pieces: Pieces) -> dict[str, Any]:
    return {
        "greedy": _text(model.greedy, pieces),
        "settings": [_setting(sampling, pieces) for sampling in model.samplings],
    }


def _setting(sampling: Sampling, pieces: Pieces) -> dict[str, Any]:
    return {
        **vars(sampling.setting),
        "samples": [{"index": sample.index, **_text(sample, pieces)} for sample in sampling.samples],
    }


def _text(sample: Sample, pieces: Pieces) -> dict[str, Any]:
    return {
        "ids": sample.ids,
        "text": pieces.text(sample.ids),
        "logprob_nats": sample.logprob_nats,
        "mean_entropy_bits": sample.mean_entropy_bits,
        "distinct_tokens": sample.distinct_tokens,
        "repeated_trigram_share": sample.repeated_trigram_share,
        "finished": sample.finished,
    }
