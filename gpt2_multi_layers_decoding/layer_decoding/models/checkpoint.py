"""What a model folder must hold before anything is loaded from it, and the sentence for each way it can fall short.

A model folder is ``config.json``, a tokenizer, and weights as safetensors: one file, or shards that an index names.
Files are only looked at here; `loading` builds the model. Every failure is a `LayerDecodingError` of one sentence.
"""

import json
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
BPE_FILES = ("vocab.json", "merges.txt")  # one is of no use without the other
_PICKLES = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Weights:
    """The safetensors `files` of a model, how many numbers they hold, and the dtype that most of those have."""

    files: tuple[Path, ...]
    parameter_count: int
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """The weight files that `folder` should hold: the single one, else the shards of its index, else none."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / WEIGHTS_INDEX).is_file():
        return []
    try:
        return [folder / name for name in sorted(set(read_json(folder / WEIGHTS_INDEX)["weight_map"].values()))]
    except (KeyError, AttributeError, TypeError) as error:
        raise LayerDecodingError(f"{folder / WEIGHTS_INDEX} names no weight files; copy it again.") from error


def has_tokenizer(folder: Path) -> bool:
    """Whether `folder` holds the files of some tokenizer."""
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        return True
    return all((folder / name).is_file() for name in BPE_FILES)


def is_complete(folder: Path) -> bool:
    """Whether config, tokenizer and every weight file are in `folder`; what is in them is not looked at."""
    try:
        files = weight_files(folder)
    except LayerDecodingError:
        return False
    return bool(files) and has_tokenizer(folder) and all(file.is_file() for file in [*files, folder / "config.json"])


def check_folder(folder: Path) -> None:
    """Refuse a path that is no model folder: not there, a file, without config.json or without a tokenizer."""
    try:
        _check_folder(folder)
    except OSError as error:
        raise LayerDecodingError(f"{folder} cannot be looked at ({error.strerror}); give another folder.") from error


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        advice = "give the folder that holds its config.json, tokenizer and safetensors weights"
        raise LayerDecodingError(f"{folder} is a file, not a model folder; {advice}.")
    if not folder.is_dir():
        raise LayerDecodingError(f"There is no folder {folder}; check the path, or give a Hub name or --model mini.")
    if not (folder / "config.json").is_file():
        raise LayerDecodingError(f"{folder} holds no config.json; give a folder that save_pretrained wrote.")
    if not has_tokenizer(folder):
        advice = "copy tokenizer.json (or vocab.json and merges.txt) from the original model into it"
        raise LayerDecodingError(f"{folder} holds no tokenizer; {advice}.")


def check_weights(folder: Path) -> Weights:
    """The weights in `folder`, with every file's header and length checked; no tensor is read."""
    files = weight_files(folder)
    if not files:
        raise LayerDecodingError(_no_weights(folder))
    count: Counter[str] = Counter()
    for file in files:
        if not file.is_file():
            raise LayerDecodingError(f"{folder} lacks {file.name}, which its index names; copy that file again.")
        count.update(_count_by_dtype(file))
    if not count.total():
        raise LayerDecodingError(f"{files[0]} holds no weights at all; copy it again.")
    return Weights(tuple(files), count.total(), _DTYPES.get(count.most_common(1)[0][0], "float32"))


def check_vocabulary(tokenizer: "PreTrainedTokenizerBase", vocab_size: int, folder: Path) -> None:
    """Refuse a tokenizer that knows no token, or one with an id that the model has no embedding for."""
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest < 0:
        raise LayerDecodingError(f"The tokenizer in {folder} knows no token at all; copy its files again.")
    if highest >= vocab_size:
        raise LayerDecodingError(
            f"The tokenizer in {folder} has ids up to {highest}, but the model's vocabulary ends at {vocab_size - 1};"
            " use the tokenizer that the model was trained with."
        )


def check_match(info: dict[str, Any], config: "PreTrainedConfig", folder: Path) -> None:
    """Refuse weights that are not those of `config`: transformers would fill what is missing with random numbers.

    `info` is the loading information of ``from_pretrained``, from which it has already left out what may be missing
    (a tied ``lm_head``) or left over (``attn.bias``, a buffer of older checkpoints).
    """
    problem = _mismatch(info, text_config(config).num_hidden_layers)
    if problem:
        raise LayerDecodingError(
            f"The weights in {folder} do not match its config.json: {problem}; restore the original pair of files."
        )


def _mismatch(info: dict[str, Any], layer_count: int) -> str | None:
    """The first thing that does not fit, with its numbers; None when everything does."""
    if info["mismatched_keys"]:
        # a matrix says more than a bias
        name, in_file, in_model = min(info["mismatched_keys"], key=lambda mismatch: (-len(mismatch[1]), mismatch[0]))
        return f"{name} is {_shape(in_file)} in the file and {_shape(in_model)} by the config"
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        return f"{len(missing)} of the tensors it asks for are missing, first {missing[0]}"
    # A left-over tensor may be harmless (a value head), a left-over block is a model that was cut short.
    extra = sorted(key for key in info["unexpected_keys"] if _block_number(key) >= layer_count)
    if extra:
        return f"it asks for {layer_count} layers, but the weights go on with {extra[0]}"
    return None


def _shape(size: tuple[int, ...]) -> str:
    return " × ".join(str(length) for length in size)


def _block_number(key: str) -> int:
    """The first number among the dotted parts of a tensor's name, counted from 0; -1 without one."""
    return next((int(part) for part in key.split(".") if part.isdecimal()), -1)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`; anything else is refused."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LayerDecodingError(f"{file} cannot be read ({brief(error)}); restore the original.") from error
    if not isinstance(document, dict):
        raise LayerDecodingError(f"{file} holds no JSON object; restore the original.")
    return document


def _no_weights(folder: Path) -> str:
    """Why there is nothing to load, and what to do about it."""
    pickles = [file.name for pattern in _PICKLES for file in sorted(folder.glob(pattern))]
    if not pickles:
        return f"{folder} holds no {WEIGHTS_FILE}; copy the weights into it, as safetensors."
    return (
        f"{folder} holds its weights as a pickle ({pickles[0]}), which is refused because unpickling can run any code;"
        " if you trust it, convert it once with AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)."
    )


def _count_by_dtype(file: Path) -> Counter[str]:
    """How many numbers of each safetensors dtype `file` holds, from its header."""
    from safetensors import SafetensorError, safe_open

    count: Counter[str] = Counter()
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict, it cannot be iterated
                tensor = tensors.get_slice(name)
                count[tensor.get_dtype()] += prod(tensor.get_shape())
    except (SafetensorError, OSError) as error:
        size = f"{file.stat().st_size:,} bytes"
        raise LayerDecodingError(f"{file} ({size}) is damaged or cut short ({brief(error)}); copy it again.") from error
    return count
