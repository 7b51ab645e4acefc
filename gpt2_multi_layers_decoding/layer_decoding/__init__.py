"""See what every layer of a GPT-2 model would have said.

Three kinds of module, one direction. *Decoding* (torch, no printing) returns frozen dataclasses of plain
Python values; *rendering* (no torch) turns them into strings; only a script prints.

    loading     loading, locating (hub), checkpoint, gguf_file, configuration, devices; prompts; limits
    decoding    lens (views, heads), caching, measures, greedy (record, shrinking), truncation;
                generation, scoring, beam (beam_record, beam_lens); sampling (sampling_batch, drawing),
                distribution; text_lens; byte_pairs, word_votes, attention_heads;
                training, training_data (corpus, dialogues), vocabulary; memory
    results     results, beam_results, sampling_results, sampling_settings, text_results
    rendering   pieces, alignment, wrapping, cells; rows, table, steps, track, live; beam_rows, beam_tree;
                sampling_rows, distribution_rows; text_rows; lesson, lesson_page, byte_pair_lesson
    in files    documents and *_document, tidy, page (shading), plots, saving
    the shell   arguments, text_input, command, terminal, errors

Shape symbols, used in every docstring:

    B batch    P prompt tokens    T generated tokens    L layers    R rows (layers decoded)
    D hidden width    V vocabulary    K candidates    N tracked tokens

Importing this package imports no torch: the names below are fetched when first used.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layer_decoding.beam import beam_search
    from layer_decoding.beam_results import BeamSearch
    from layer_decoding.errors import LayerDecodingError, UsageError
    from layer_decoding.greedy import decode_layers
    from layer_decoding.loading import LoadedModel, load_model
    from layer_decoding.results import LayerDecoding
    from layer_decoding.sampling import sample
    from layer_decoding.text_lens import measure_text
    from layer_decoding.text_results import TextMeasures
    from layer_decoding.truncation import truncate

_HOME_OF = {
    "BeamSearch": "beam_results",
    "LayerDecoding": "results",
    "LayerDecodingError": "errors",
    "LoadedModel": "loading",
    "TextMeasures": "text_results",
    "UsageError": "errors",
    "beam_search": "beam",
    "decode_layers": "greedy",
    "load_model": "loading",
    "measure_text": "text_lens",
    "sample": "sampling",
    "truncate": "truncation",
}

__all__ = [
    "BeamSearch",
    "LayerDecoding",
    "LayerDecodingError",
    "LoadedModel",
    "TextMeasures",
    "UsageError",
    "beam_search",
    "decode_layers",
    "load_model",
    "measure_text",
    "sample",
    "truncate",
]

try:
    __version__ = _installed_version("gpt2-multi-layers-decoding")
except PackageNotFoundError:  # run from the source folder, nothing installed
    __version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        return getattr(import_module(f"layer_decoding.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module 'layer_decoding' has no attribute {name!r}")
