"""The folder of a run: while it trains one file, the checkpoint, from which it can go on; at the end a model."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.training.recipe import Progress, Recipe

OF_A_MODEL = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Origin:
    """What a checkpoint came from: its recipe, a fingerprint of its text, its tokenizer as a tokenizer.json."""

    recipe: Recipe
    text: str
    tokenizer: str


class Folder:
    """Where a run keeps its checkpoint and writes its model; each is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoint = path, path / "checkpoint.safetensors"

    def open(self) -> tuple[Origin, Progress] | None:
        """Make the folder; what its checkpoint came from and how far it is, None if there is none.

        Raises:
            LayerDecodingError: it cannot be made, holds a model that no run here left, or a damaged checkpoint.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LayerDecodingError(
                f"{self.path} cannot be made: {error.strerror}; choose another folder.", settings=("out",)
            ) from None
        if self.checkpoint.exists():
            return self._origin()
        if found := [name for name in OF_A_MODEL if (self.path / name).exists()]:
            raise LayerDecodingError(
                f"{self.path} holds a model that is none of a run here ({', '.join(found)} without a checkpoint), and "
                "would lose it; choose another folder.",
                settings=("out",),
            )
        return None

    def _origin(self) -> tuple[Origin, Progress]:
        with self._reading() as file:
            saved = json.loads(file.metadata()["origin"])
            recipe = Recipe(**saved.pop("recipe"))
            return Origin(recipe, **saved), Progress(**json.loads(file.metadata()["progress"]))

    def save_checkpoint(
        self, model: Any, optimizers: Sequence[torch.optim.Optimizer], origin: Origin, progress: Progress
    ) -> None:
        """Weights, the optimizers' state and all that is needed to go on; raises LayerDecodingError on a full disk."""
        from safetensors.torch import save_file

        tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
        for number, optimizer in enumerate(optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{key}": value for key, value in state.items()}
        metadata = {"origin": json.dumps(asdict(origin)), "progress": json.dumps(asdict(progress))}
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self._write(size, lambda part: save_file(tensors, part / self.checkpoint.name, metadata))

    def restore(self, model: Any, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Put a checkpoint's tensors back in place; raises LayerDecodingError if it is damaged."""
        with self._reading() as file, torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
            states: list[dict[int, Any]] = [{} for _ in optimizers]
            for key in file.keys():  # noqa: SIM118  (a safe_open file cannot be iterated)
                if key.startswith("optimizer."):
                    _, number, index, name = key.split(".")
                    states[int(number)].setdefault(int(index), {})[name] = file.get_tensor(key)
            for optimizer, state in zip(optimizers, states, strict=True):
                optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def save_model(self, model: Any, tokenizer: Any) -> None:
        """The model and its tokenizer, as every program for GPT-2 opens them; raises LayerDecodingError."""

        def write(part: Path) -> None:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)

        self._write(sum(value.numel() * value.element_size() for value in model.parameters()), write)

    def _write(self, size: int, write: Callable[[Path], object]) -> None:
        """Let files of about `size` bytes be written to a folder beside, then put them in place of the old ones."""
        from safetensors import SafetensorError

        try:
            with TemporaryDirectory(suffix=".part", dir=self.path) as part:
                write(Path(part))
                for file in Path(part).iterdir():
                    file.replace(self.path / file.name)
        except (SafetensorError, OSError) as error:
            raise self._unwritten(size, _reason(error)) from None

    def _unwritten(self, size: int, reason: str) -> LayerDecodingError:
        free = shutil.disk_usage(self.path).free if self.path.exists() else 0
        why = "the disk is full" if free < size else reason
        return LayerDecodingError(
            f"{self.path} cannot be written to ({why}): {size / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are "
            "free; what it held is kept, so make room and go on, or choose another folder.",
            settings=("out",),
        )

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        """The open checkpoint, whatever is wrong with it said in one sentence."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.checkpoint, "pt") as file:
                yield file
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise LayerDecodingError(
                f"{self.checkpoint} is damaged, or of another version of this program; delete it to begin again, or "
                "choose another folder.",
                settings=("out",),
            ) from None


def _reason(error: Exception) -> str:
    """What the system says is wrong, without what the library that writes puts around it."""
    reason: str = getattr(error, "strerror", None) or brief(error)
    return re.sub(r".*: (.*) \(os error \d+\)", r"\1", reason)


def fingerprint(texts: Sequence[str]) -> str:
    """What tells one list of texts from another: the first 16 digits of a SHA-256."""
    return sha256("\0".join(texts).encode()).hexdigest()[:16]
