"""A model in a folder: ``config.json``, a tokenizer, and weights as safetensors, one file or shards of an index.

So too a snapshot of the Hub, which is a folder of its cache. Every way in which one can fall short is a
`LayerDecodingError` of one sentence.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layer_decoding.errors import LayerDecodingError
from layer_decoding.models.configuration import (
    check_config,
    check_layer_counts,
    check_model_type,
    read_config,
    read_json,
)
from layer_decoding.models.tokenizer import TOKENIZER_FILE, build_tokenizer, read_tokenizer
from layer_decoding.models.weights import Blueprint, Weights, build, read_headers

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CONFIG_FILE = "config.json"
ADAPTER_CONFIG = "adapter_config.json"  # PEFT's
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer.model", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
BPE_FILES = ("vocab.json", "merges.txt")  # one is of no use without the other
_PICKLES = ("pytorch_model*.bin", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Folder:
    """A folder, the name that its model was asked for by, and the commit hash of a snapshot of the Hub."""

    path: Path
    name: str
    revision: str | None = None

    def read_weights(self) -> Weights:
        """The weights, with every file's header and length checked; no tensor is read."""
        _check_is_folder(self.path)
        files = weight_files(self.path)
        if not files:
            raise LayerDecodingError(_no_weights(self.path))
        for file in files:
            if not file.is_file():
                raise LayerDecodingError(f"{self.path} lacks {file.name}, which its index names; copy that file again.")
        return read_headers(files)

    def read_config(self) -> "PreTrainedConfig":
        """The configuration, known to be that of a causal decoder with attention blocks."""
        file = self.path / CONFIG_FILE
        document = read_json(file)
        check_model_type(document, file)
        check_layer_counts(document, file)
        config = read_config(self.path, file)
        check_config(config, file)
        return config

    def read_tokenizer(self, config: "PreTrainedConfig") -> "PreTrainedTokenizerBase":
        """The tokenizer, checked against the vocabulary of `config`."""
        return read_tokenizer(lambda: build_tokenizer(self.path), self.path, config)

    def read_model(self, blueprint: Blueprint) -> "PreTrainedModel":
        """The model with every weight from its files."""
        return build(self.path, blueprint, use_safetensors=True)


def weight_files(folder: Path) -> list[Path]:
    """The weight files that `folder` should hold: the single one, else the shards of its index, else none."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / WEIGHTS_INDEX).is_file():
        return []
    return [folder / name for name in shards(folder / WEIGHTS_INDEX)]


def shards(index: Path) -> list[str]:
    """The names of the weight files that an index names, whatever they are called."""
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        other = next((name for name in names if not name.endswith(".safetensors")), None)
    except (KeyError, AttributeError, TypeError) as error:
        raise LayerDecodingError(f"{index} names no weight files; copy it again.") from error
    if other is not None:  # transformers would unpickle it
        raise LayerDecodingError(f"{index} names {other}, which is no safetensors file; restore the original.")
    return names


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
    return bool(files) and has_tokenizer(folder) and all(file.is_file() for file in [*files, folder / CONFIG_FILE])


def _check_is_folder(path: Path) -> None:
    """Refuse a path that is no model folder: not there, a file, without config.json or without a tokenizer."""
    try:
        problem = _shortcoming(path)
    except OSError as error:
        raise LayerDecodingError(f"{path} cannot be looked at ({error.strerror}); give another folder.") from error
    if problem:
        raise LayerDecodingError(problem, settings=() if path.exists() else ("model",))


def _shortcoming(path: Path) -> str | None:
    if path.is_file():
        return (
            f"{path} is a file, not a model folder; give the folder that holds its config.json, tokenizer and"
            " safetensors weights."
        )
    if not path.is_dir():
        return f"There is no folder {path}; check the path, or give a Hub name, or mini for the bundled model."
    if (path / ADAPTER_CONFIG).is_file() and not weight_files(path):
        return _adapter(path)
    if not (path / CONFIG_FILE).is_file():
        gguf = next(path.glob("*.gguf"), None)
        if gguf is not None:
            return f"{path} holds no config.json, but {gguf.name}; give that file."
        return f"{path} holds no config.json; give a folder that save_pretrained wrote."
    if not has_tokenizer(path):
        advice = "copy tokenizer.json (or vocab.json and merges.txt) from the original model into it"
        return f"{path} holds no tokenizer; {advice}."
    return None


def _adapter(folder: Path) -> str:
    """What a folder of PEFT's is, and what to do about it."""
    base = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path") or "another model"
    return (
        f"{folder} holds a PEFT adapter for {base}, not a model; merge it into that (merge_and_unload) and give the"
        " folder that save_pretrained writes."
    )


def _no_weights(folder: Path) -> str:
    """Why there is nothing to load, and what to do about it."""
    pickles = [file.name for pattern in _PICKLES for file in sorted(folder.glob(pattern))]
    if not pickles:
        return f"{folder} holds no {WEIGHTS_FILE}; copy the weights into it, as safetensors."
    return (
        f"{folder} holds its weights as a pickle ({pickles[0]}), which is refused because unpickling can run any code;"
        " if you trust it, convert it once with AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)."
    )
