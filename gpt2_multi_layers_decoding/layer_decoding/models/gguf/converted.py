"""A converted copy of a GGUF file in the user's cache: safetensors, configuration and tokenizer, read in its place.

To parse a GGUF file and unpack its numbers takes a quarter of a minute, every time the same. The copy is named by the
file's contents, and holds every number as the file means it. It is read only as long as all of it is as it was written.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.folder import Folder
from layer_decoding.models.gguf.file import GgufFile
from layer_decoding.models.gguf.tensors import scale_frequencies
from layer_decoding.models.sizes import free_host_bytes
from layer_decoding.models.tokenizer import build_tokenizer
from layer_decoding.models.weights import Blueprint, Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

RECORD = "copy.json"
_VERSION = 1  # of what is written here; a copy of another one is made again
_ABANDONED = 3600  # seconds after which a copy that is not finished never will be: its process was killed


@dataclass(frozen=True, kw_only=True)
class ConvertedFile(Folder):
    """The copy, as a folder, of the GGUF file `file`, whose numbers have `dtype`; see `GgufFile.build` for the rest."""

    file: Path
    dtype: str
    is_unscaled: bool

    def read_weights(self) -> Weights:
        """The weights of the copy, with the dtype that those of the file have."""
        return replace(super().read_weights(), dtype=self.dtype)

    def read_model(self, blueprint: Blueprint) -> "PreTrainedModel":
        """The model of the copy; factors of its positions, which are no weights in safetensors, come from the file."""
        model = super().read_model(blueprint)
        if self.is_unscaled:
            scale_frequencies(model, self.file)
        return model


def converted(source: GgufFile, say: Callable[[str], None]) -> ConvertedFile | GgufFile:
    """The copy of a GGUF file, made if there is none that is whole; the file itself where none can be kept.

    `say` is told before one is made, and of what is in the way.

    Raises:
        LayerDecodingError: the file is not there, or what it holds is refused.
    """
    source.check_is_there()
    try:
        folder = _folder_of(source.path)
        _remove_abandoned(folder.parent)
        return _find(source, folder) or _make(source, folder, say)
    except LayerDecodingError:
        raise
    except Exception as error:  # whatever is wrong with the file itself, it says better when it is read
        say(f"No converted copy of {source.path} can be kept ({brief(error)}), so it is read as it is, each time anew.")
        return source


def _folder_of(file: Path) -> Path:
    """Where the copy of `file` belongs: among the assets of huggingface_hub's cache, by a digest of the contents."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE).expanduser() / "layer-decoding" / "gguf" / _digest(file)[:32]


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return file_digest(content, "sha256").hexdigest()


def _remove_abandoned(copies: Path) -> None:
    """Take away what processes that were killed have begun among the copies."""
    for started in copies.glob("*-*"):
        with suppress(OSError):
            if time.time() - started.stat().st_mtime > _ABANDONED:
                shutil.rmtree(started, ignore_errors=True)


# ---------------------------------------------------------------- found


def _find(source: GgufFile, folder: Path) -> ConvertedFile | None:
    """The copy in `folder`; None where there is none, or one that is not as it was written, or by other versions."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["versions"] != _versions() or record["files"] != _digests(folder):
            return None
        dtype, is_unscaled = record["dtype"], record["is_unscaled"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return ConvertedFile(folder, source.name, file=source.path, dtype=dtype, is_unscaled=is_unscaled)


def _versions() -> list[Any]:
    """Of this module's work and of the library whose work it keeps."""
    from transformers import __version__

    return [_VERSION, __version__]


def _digests(folder: Path) -> dict[str, str]:
    """Every file of a copy but its record, and the digest of it."""
    return {file.name: _digest(file) for file in sorted(folder.iterdir()) if file.name != RECORD}


# ---------------------------------------------------------------- made


def _make(source: GgufFile, folder: Path, say: Callable[[str], None]) -> ConvertedFile:
    """Convert, beside the place where the copy belongs, so that a copy there is a whole one."""
    weights = source.read_weights()
    folder.parent.mkdir(parents=True, exist_ok=True)
    size = 4 * weights.parameter_count
    _check_room(folder.parent, size)
    with TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as started:
        say(
            f"Converting {source.path.name}, once: up to {size / 1e6:,.0f} MB in {folder}, from which it is read from"
            " now on ..."
        )
        _write(source, weights, Path(started) / "copy")
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        with suppress(OSError):  # another process was quicker
            (Path(started) / "copy").rename(folder)
    copy = _find(source, folder)
    if copy is None:
        raise OSError(f"{folder} cannot be replaced")
    return copy


def _check_room(folder: Path, size: int) -> None:
    """Raise OSError where the disk has less than `size` bytes for a copy, or the memory for the model meanwhile."""
    for place, free in (("on disk", shutil.disk_usage(folder).free), ("in memory", free_host_bytes())):
        if free is not None and free < size:
            raise OSError(f"it takes {size / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free {place}")


def _write(source: GgufFile, weights: Weights, folder: Path) -> None:
    """The copy of a GGUF file, with its record, in a new folder."""
    config = source.read_config()
    tokenizer = source.read_tokenizer(config)
    model, is_unscaled = source.build(Blueprint(config, weights, "float32"))
    _make_plain(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _check_tokenizer(tokenizer, folder)
    record = {
        "file": os.fspath(source.path.absolute()),
        "versions": _versions(),
        "dtype": weights.dtype,
        "is_unscaled": is_unscaled,
        "files": _digests(folder),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def _make_plain(model: Any) -> None:
    """Make an unpacked model one that can be saved, its numbers in 16 bits where those hold them exactly.

    transformers refuses to save what comes from a GGUF file, of which it may have kept the blocks; these it has not.
    """
    import torch

    model.hf_quantizer = None
    del model.config.quantization_config
    for parameter in model.parameters():
        for dtype in (torch.float16, torch.bfloat16):
            half = parameter.data.to(dtype)
            if torch.equal(half.float(), parameter.data):
                parameter.data = half
                break


def _check_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Raise ValueError where a tokenizer is not read from `folder` as it was written there."""
    again: Any = build_tokenizer(folder)
    as_it_was: Any = tokenizer
    same_rules = again.backend_tokenizer.to_str() == as_it_was.backend_tokenizer.to_str()
    if not same_rules or again.special_tokens_map != as_it_was.special_tokens_map:
        raise ValueError("its tokenizer is another one when written as tokenizer.json")
