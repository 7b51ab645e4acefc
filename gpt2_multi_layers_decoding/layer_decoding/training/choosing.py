"""What a recipe leaves open, chosen from the amount of text, the time and the device.

A model that is too large for its minutes learns nothing that can be read, one that is too large for its text learns
it by heart: so the largest is taken that the text is enough for and that can take enough steps in the time.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.recipe import Length, Recipe

USED_SHARE = {"cpu": 0.2, "cuda": 0.12, "mps": 0.15}  # of the speed of large products, as training reaches it
EPOCHS_WITHOUT_DROPOUT = 8  # a text read more often is learnt by heart without it
DROPOUT = 0.1
BYTES_A_TOKEN = 4  # about, where a text is not yet in tokens
FEWEST_TOKENS_SHARE = 8  # bytes a token at most, to be sure that a short text fills a batch
FEWEST_PIECES, MOST_PIECES = 512, 8192  # of a vocabulary
BY_NEED = 4096  # a vocabulary of characters, or of what is learnt by heart, is as large as the text makes it up to this
DIALOGUES_A_STEP = 16


@dataclass(frozen=True)
class Amount:
    """How much there is to learn: bytes of text; or of dialogues, the longest of which has `longest` bytes."""

    byte_count: int
    longest: int | None = None


@dataclass(frozen=True)
class Rung:
    """A shape and its batch, which can be had for this much text and this many steps."""

    layers: int
    width: int
    context: int
    batch: int
    learning_rate: float
    fewest_bytes: int
    fewest_steps: int
    on_a_gpu: bool = False  # only there, unless the minutes say that it can be done

    def step_operations(self, vocabulary: int) -> float:
        """Additions and multiplications of a step: twice for each weight and token, three times over (backward)."""
        weights = 12 * self.layers * self.width**2 + vocabulary * self.width
        return 6.0 * weights * self.context * self.batch


RUNGS = (
    Rung(6, 64, 64, 8, 0.02, 0, 0),
    Rung(6, 96, 64, 8, 0.02, 0, 1000),
    Rung(8, 128, 128, 16, 0.01, 500_000, 1000),
    Rung(12, 192, 256, 16, 0.004, 3_000_000, 800),
    Rung(12, 256, 512, 64, 0.004, 30_000_000, 2000, on_a_gpu=True),
)


def choose(given: Mapping[str, Any], amount: Amount, length: Length, device: str, speed: float) -> Recipe:
    """A whole recipe, what is `given` as it is; `speed` in operations a second, see `measured_speed`.

    For a number of steps the speed has no say, so that the same steps give the same model.
    """
    vocabulary = given.get("vocabulary") or _vocabulary(amount, given.get("tokenizer", "bpe"))
    budget = None if length.steps else length.seconds * speed * USED_SHARE[device.partition(":")[0]]
    rung = _rung(amount, vocabulary, budget, device)
    steps = length.steps or (budget or 0) / rung.step_operations(vocabulary)
    chosen = {name: getattr(rung, name) for name in ("layers", "width", "context", "batch", "learning_rate")}
    chosen |= _for_dialogues(amount.longest) if amount.longest else _for_text(given, rung, amount, steps)
    whole = chosen | {"vocabulary": vocabulary, **given}
    if "width" not in given and "heads" in given:
        whole["width"] = -(-whole["width"] // whole["heads"]) * whole["heads"]
    return Recipe(**{"heads": _heads(whole["width"])} | whole)


def measured_speed(device: str) -> float:
    """Operations a second of a large product here and now: the work of a blink."""
    size = 512 if device == "cpu" else 4096
    square = torch.ones(size, size, device=device, dtype=torch.float32 if device == "cpu" else torch.float16)
    best = float("inf")
    for _ in range(5):
        started = time.monotonic()
        (square @ square)[0, 0].item()
        best = min(best, time.monotonic() - started)
    return 2 * size**3 / best


def kept(recipe: Recipe, given: Mapping[str, Any], place: str) -> Recipe:
    """The recipe of a checkpoint; raises LayerDecodingError if something else is given now."""
    saved = asdict(recipe)
    differing = [name for name in saved if given.get(name, saved[name]) != saved[name]]
    if differing:
        was = ", ".join(f"{name.replace('_', ' ')} {saved[name]}" for name in differing)
        raise LayerDecodingError(
            f"{place} was made with {was}; ask for the same, or choose another folder.", settings=(*differing, "out")
        )
    return recipe


def _rung(amount: Amount, vocabulary: int, budget: float | None, device: str) -> Rung:
    """The largest that the text and the operations to spend are enough for; the first always is."""

    def is_enough(rung: Rung) -> bool:
        if amount.byte_count < rung.fewest_bytes:
            return False
        if budget is None:
            return not rung.on_a_gpu or device.startswith("cuda")
        return budget >= rung.fewest_steps * rung.step_operations(vocabulary)

    return next(rung for rung in reversed(RUNGS) if is_enough(rung))


def _vocabulary(amount: Amount, tokenizer: str) -> int:
    """A power of two, eight times as large for a thousand times the text: 1,024 pieces for 100 kB.

    Larger, most pieces are seen too seldom to be learnt; smaller, even common words have to be spelt.
    """
    if tokenizer == "characters" or amount.longest:
        return BY_NEED
    pieces = 1024 * (max(1, amount.byte_count) / 100_000) ** 0.3
    return int(min(MOST_PIECES, max(FEWEST_PIECES, 2 ** round(math.log2(pieces)))))


def _heads(width: int) -> int:
    """Heads of 64, of 32 in a narrow model; fewer where the width is not a multiple."""
    most = max(1, width // (64 if width >= 192 else 32))
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def _for_dialogues(longest: int) -> dict[str, Any]:
    """All of them are learnt by heart, the longest too, which has no more tokens than bytes and an end."""
    context = next((size for size in (128, 256, 512) if size >= longest + 2), 1024)
    return {"batch": DIALOGUES_A_STEP, "context": context, "dropout": 0.0}


def _for_text(given: Mapping[str, Any], rung: Rung, amount: Amount, steps: float) -> dict[str, Any]:
    """A batch that the text fills, and dropout where it is read often."""
    context, batch = given.get("context", rung.context), given.get("batch", rung.batch)
    fewest = amount.byte_count // FEWEST_TOKENS_SHARE
    while "batch" not in given and batch > 1 and context * (batch + 1) >= fewest:
        batch //= 2
    while "context" not in given and context > 16 and context * (batch + 1) >= fewest:
        context //= 2
    epochs = steps * context * batch * BYTES_A_TOKEN / max(1, amount.byte_count)
    return {"context": context, "batch": batch, "dropout": DROPOUT if epochs > EPOCHS_WITHOUT_DROPOUT else 0.0}
