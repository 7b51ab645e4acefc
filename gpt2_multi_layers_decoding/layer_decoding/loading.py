"""A model and its tokenizer, ready to decode with: from the cache, the Hub, a folder, or the small bundled one.

Nothing is printed here: what a reader should know (a download and its size, which model, device and dtype were
picked, and why) goes to `on_notice` as it happens and is kept in `LoadedModel.notes`. Torch and transformers are
imported inside functions, so that a command line can be refused before they are.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding import hub
from layer_decoding.checkpoint import (
    Weights,
    brief,
    check_folder,
    check_match,
    check_vocabulary,
    check_weights,
    read_config,
)
from layer_decoding.devices import check_dtype, memory_error, pick_device, pick_dtype
from layer_decoding.errors import LayerDecodingError, UsageError, is_out_of_memory
from layer_decoding.limits import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "gpt2"
BUNDLED_MODEL = "mini"
BUNDLED_FOLDER = Path(__file__).parent / "mini_gpt2"

_QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
_PROGRESS_BARS = {
    "huggingface_hub.utils.tqdm": "disable_progress_bars",
    "transformers.utils.logging": "disable_progress_bar",
}


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode, without gradients, on `device` in `dtype`, and its tokenizer.

    `name` is what it was asked for by, "mini" for the bundled model. `notes` are the notices given while loading.
    `revision` is the commit hash of a snapshot from the Hub's cache, None for a folder.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    device: str
    dtype: str
    notes: tuple[str, ...]
    revision: str | None = None


@dataclass(frozen=True)
class _Source:
    """Where a model was found: the folder, the name to call it by, and the commit hash of a Hub snapshot."""

    folder: Path
    name: str
    revision: str | None = None


def load_model(
    name: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    on_notice: Callable[[str], None] | None = None,
) -> LoadedModel:
    """The model called `name`: a Hub name, a folder, "mini", or None for gpt2 and, where that cannot be had, "mini".

    `device` is auto, cpu, cuda, cuda:N or mps; `dtype` is auto, float32, float16 or bfloat16. Each notice is one
    sentence, given to `on_notice` before what it announces. Raises UsageError for a malformed argument and
    LayerDecodingError for everything that the world refuses, each with one sentence as its message.
    """
    notes: list[str] = []

    def say(notice: str) -> None:
        notes.append(notice)
        if on_notice is not None:
            on_notice(notice)

    check_dtype(dtype)
    device, device_reason = pick_device(device)
    source = _locate(name, say)
    check_folder(source.folder)
    config = read_config(source.folder)
    tokenizer = _load_tokenizer(source.folder, config)
    weights = check_weights(source.folder)
    dtype, dtype_reason = pick_dtype(dtype, device, config.model_type, weights.dtype)
    say(f"Running {source.name} on {device} ({device_reason}) in {dtype} ({dtype_reason}).")
    model = _load_weights(source, weights, config, device, dtype)
    return LoadedModel(model, tokenizer, source.name, device, dtype, tuple(notes), source.revision)


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of `text` to continue from: what the tokenizer puts before it is kept, what it adds after is left out.

    A special token spelt out in `text`, such as ``<|endoftext|>``, is that token. A closing token ([SEP] of the BERT
    tokenizers that Chinese GPT-2s use) would end the text before it is continued.
    """
    # What comes before is read off a letter, since in `text` itself a token could be typed or added.
    letter = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a")
    starts = range(len(framed) - len(letter) + 1)
    start = next((at for at in starts if framed[at : at + len(letter)] == letter), 0)
    return [*framed[:start], *tokenizer.encode(text, add_special_tokens=False)]


def quiet_libraries() -> None:
    """Keep the warnings, advice and progress bars of transformers and huggingface_hub from the reader.

    Works before they are imported, through the environment, in which a value that is already set stays; and after.
    """
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    warnings.filterwarnings("ignore", module=r"(transformers|huggingface_hub|tokenizers)(\.|$)")
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    for module, switch in _PROGRESS_BARS.items():
        if module in sys.modules:
            getattr(sys.modules[module], switch)()


def _locate(name: str | None, say: Callable[[str], None]) -> _Source:
    """The folder of the model called `name`, downloaded if need be."""
    if name is None:
        return _locate_default(say)
    if not name.strip():
        raise UsageError("The model name is empty: give a Hub name, a folder, or mini.")
    if name == BUNDLED_MODEL:
        return _Source(BUNDLED_FOLDER, name)
    if is_folder_name(name):
        return _Source(_path(name), name)
    if not hub.is_possible_name(name):
        raise LayerDecodingError(
            f"{name!r} is neither a folder nor a possible Hub name; check it, or use --model mini."
        )
    return _snapshot(hub.find_cached(name) or hub.fetch(name, say), name)


def is_folder_name(name: str) -> bool:
    """Whether `name` means a folder: one that is there, or a path that cannot be a Hub's ``owner/name``.

    A bare name means a folder only if that holds a config.json, so that a stray folder does not hide a Hub name.
    """
    if "/" in name or "\\" in name:
        return name.startswith((".", "~")) or _exists(_path(name)) or not hub.is_possible_name(name)
    return _exists(_path(name) / "config.json")


def _path(name: str) -> Path:
    """`name` as a path, a leading ~ resolved where that user is known."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _exists(path: Path) -> bool:
    """Whether `path` is there; a path that may not be looked at, or is too long to be one, is not."""
    try:
        return path.exists()
    except OSError:
        return False


def _locate_default(say: Callable[[str], None]) -> _Source:
    """gpt2, or the bundled model where there is none: the only case in which another model than named is used."""
    cached = hub.find_cached(DEFAULT_MODEL)
    if cached is not None:
        return _snapshot(cached, DEFAULT_MODEL)
    try:
        return _snapshot(hub.fetch(DEFAULT_MODEL, say), DEFAULT_MODEL)
    except hub.HubError as failure:
        say(
            f"{DEFAULT_MODEL} is not in the local cache and {failure.reason}, so the small bundled model"
            f" {BUNDLED_MODEL} runs instead; for {DEFAULT_MODEL}, {failure.advice}, or give its folder with --model."
        )
        return _Source(BUNDLED_FOLDER, BUNDLED_MODEL)


def _snapshot(folder: Path, name: str) -> _Source:
    """A snapshot folder of the Hub's cache, which is named by its commit hash."""
    return _Source(folder, name, folder.name)


def _load_tokenizer(folder: Path, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
    """The tokenizer in `folder`, checked against the model's vocabulary."""
    try:
        tokenizer = _read_tokenizer(folder, config)
        check_vocabulary(tokenizer, text_config(config).vocab_size, folder)
    except LayerDecodingError:
        raise
    except Exception as error:
        raise LayerDecodingError(
            f"The tokenizer in {folder} cannot be read ({brief(error)}); copy its files from the original model again."
        ) from error
    return tokenizer


def _read_tokenizer(folder: Path, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
    """A GPT-2 tokenizer.json exactly as it stands; whatever else there is as transformers' own choice of class.

    That choice would rebuild a GPT-2 tokenizer from its vocabulary and merges alone, losing normalisers and
    pre-tokenisers of a model trained elsewhere.
    """
    options: dict[str, Any] = {"local_files_only": True}
    if config.model_type == "gpt2" and (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder, **options)
        _name_end_of_text(tokenizer, config)
        return tokenizer
    from transformers import AutoTokenizer

    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    return loaded


def _name_end_of_text(tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
    """Tell the tokenizer which of its special tokens ends a text, where only the model's config says so (gpt2's)."""
    ids: Any = getattr(config, "eos_token_id", None)
    token = tokenizer.added_tokens_decoder.get(ids) if isinstance(ids, int) else None
    if tokenizer.eos_token is None and token is not None and token.special:
        tokenizer.eos_token = token.content


def _load_weights(
    source: _Source, weights: Weights, config: "PreTrainedConfig", device: str, dtype: str
) -> "PreTrainedModel":
    """The model of `config` with its weights in `dtype` on `device`; refused unless every weight came from a file."""
    try:
        model, info = _from_pretrained(source.folder, config, dtype)
        check_match(info, config, source.folder)
        return _ready(model, device)
    except LayerDecodingError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise memory_error(source.name, weights.parameter_count, device, dtype) from error
        raise LayerDecodingError(
            f"The model in {source.folder} cannot be built from its config.json and weights ({brief(error)}); restore"
            " the original files."
        ) from error


def _from_pretrained(folder: Path, config: "PreTrainedConfig", dtype: str) -> tuple["PreTrainedModel", dict[str, Any]]:
    """transformers' own loading, with its report of what did not fit instead of its exception for some of it."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        config=config,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    model, info = loaded
    return model, info


def _ready(model: Any, device: str) -> "PreTrainedModel":
    """`model` on `device`, its weights fixed; transformers has put it in evaluation mode."""
    ready: PreTrainedModel = model.to(device).requires_grad_(False)
    return ready
