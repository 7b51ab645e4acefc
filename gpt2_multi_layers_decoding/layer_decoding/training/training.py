"""Training a small GPT-2: model, optimizers, score, checkpoints, the loop.

Matrices inside the blocks learn with Muon (K. Jordan et al., "Muon", 2024), everything else with AdamW, both
from torch.optim. The learning rate rises for 200 steps, stays, and falls linearly over the last 40% of the run.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from layer_decoding.errors import LayerDecodingError

WARM_UP_STEPS = 200
COOL_DOWN_SHARE = 0.4
SCORED_WINDOWS = 40  # of the held-out text, at each checkpoint; the whole of it is scored with `bits_per_byte`


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, apart from the text and how long to train. A checkpoint belongs to one recipe."""

    layers: int = 12
    width: int = 192
    heads: int = 3
    context: int = 256
    vocabulary: int = 4096
    batch: int = 16
    learning_rate: float = 4e-3
    seed: int = 0
    tokenizer: str = "bpe"


class Batches(Protocol):
    """What a model is trained on, in a seeded order: batch n is the same whatever came before it."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids to read and ids to predict, int64 [batch, positions] each; no loss is taken where a target is -100."""


@dataclass
class Progress:
    """How far a run has come; `seconds` counts training alone."""

    step: int = 0
    seconds: float = 0.0


def build_model(recipe: Recipe, vocabulary: int, end_id: int) -> Any:
    """A GPT2LMHeadModel of the recipe's shape, its weights drawn from the seed."""
    from transformers.models.gpt2.configuration_gpt2 import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_id,
        eos_token_id=end_id,
        # gelu_new in one fused kernel; and plain attention, which beats the CPU's flash kernel at short contexts
        activation_function="gelu_pytorch_tanh",
    )
    model = GPT2LMHeadModel(config)
    model.set_attn_implementation("eager")
    return model


def save_model(model: Any, folder: Path) -> None:
    """The trained weights in float16, under the names that GPT-2's own configuration has for what was used."""
    model.config.activation_function = "gelu_new"
    model.half().save_pretrained(folder)


def build_optimizers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, norms and biases."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and ".h." in name else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.95), fused=True),
    ]


def bits_per_byte(model: Any, ids: torch.Tensor, byte_count: int, windows: int | None = None) -> tuple[float, float]:
    """Held-out loss over disjoint windows of the context's length: (nats per token, bits per byte).

    Each window scores all its tokens but the first; windows overlap by that one. `windows` takes that many,
    evenly spaced. Bits per byte compare models of different tokenizers, which a loss per token does not.
    """
    context = model.config.n_positions
    starts = list(range(0, len(ids) - 1, context))
    if windows is not None and windows < len(starts):
        starts = [starts[i * len(starts) // windows] for i in range(windows)]
    nats, tokens = 0.0, 0
    with torch.inference_mode():
        for start in starts:
            window = ids[start : start + context + 1].to(model.device)
            logits = model(window[None, :-1]).logits[0].float()
            nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
            tokens += len(window) - 1
    return nats / tokens, nats / tokens / math.log(2) * len(ids) / byte_count


# ---------------------------------------------------------------- checkpoints
def save_checkpoint(
    path: Path, model: Any, optimizers: list[torch.optim.Optimizer], recipe: Recipe, progress: Progress
) -> None:
    """Weights, optimizer state and progress in one safetensors file, written whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{key}": value for key, value in state.items()}
    part = path.with_suffix(".part")
    save_file(tensors, part, {"recipe": json.dumps(asdict(recipe)), "progress": json.dumps(asdict(progress))})
    part.replace(path)


def load_checkpoint(path: Path, model: Any, optimizers: list[torch.optim.Optimizer], recipe: Recipe) -> Progress:
    """Put a checkpoint's tensors back in place and return how far it had come.

    Raises:
        LayerDecodingError: the file is damaged, or belongs to another recipe.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            _check_recipe(path, recipe, json.loads(file.metadata()["recipe"]))
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"model.{name}"))
            states: list[dict[int, Any]] = [{} for _ in optimizers]
            for key in file.keys():  # noqa: SIM118  (a safe_open file cannot be iterated)
                if key.startswith("optimizer."):
                    _, number, index, name = key.split(".")
                    states[int(number)].setdefault(int(index), {})[name] = file.get_tensor(key)
            for optimizer, state in zip(optimizers, states, strict=True):
                optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
            return Progress(**json.loads(file.metadata()["progress"]))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        raise LayerDecodingError(f"{path} is damaged; delete it to begin again.") from None


def _check_recipe(path: Path, recipe: Recipe, saved: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that other options made."""
    saved = {"tokenizer": Recipe.tokenizer} | saved  # of a time when there was no other
    differing = [f"{name} {saved.get(name)}" for name, value in asdict(recipe).items() if saved.get(name) != value]
    if differing:
        raise LayerDecodingError(
            f"{path} was made with {', '.join(differing)}; give the same options, or another folder with --out."
        )


# ---------------------------------------------------------------- the loop
def learning_rate_share(step: int, done: float) -> float:
    """Share of the peak learning rate at a step, `done` (0 to 1) being the share of the run behind it."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.01, (1 - done) / COOL_DOWN_SHARE))


def train(
    model: Any,
    batches: Batches,
    recipe: Recipe,
    checkpoint: Path,
    *,
    share_done: Callable[[Progress], float],
    on_step: Callable[[Progress, float], None],
    on_checkpoint: Callable[[Progress], None],
    checkpoint_every: int = 250,
    bfloat16: bool = False,
    compiled: bool = False,
) -> int:
    """Train until `share_done(progress)` reaches 1, going on from the checkpoint if there is one: the steps taken.

    `on_step(progress, loss)` is called after each step, loss in nats per token; `on_checkpoint(progress)` after
    each checkpoint, every `checkpoint_every` steps and at the end. bfloat16 halves the time or better where the
    processor multiplies it natively (AVX512-BF16, AMX, a recent GPU); weights and loss stay float32.
    """
    optimizers = build_optimizers(model, recipe.learning_rate)
    progress = load_checkpoint(checkpoint, model, optimizers, recipe) if checkpoint.exists() else Progress()
    first = progress.step

    def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16):
            logits = model(inputs, use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    forward = torch.compile(loss_of) if compiled else loss_of
    model.train()
    while share_done(progress) < 1:
        started = time.monotonic()
        loss = forward(*(ids.to(model.device) for ids in batches.batch(progress.step)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = recipe.learning_rate * learning_rate_share(progress.step, share_done(progress))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.seconds += time.monotonic() - started
        on_step(progress, loss.item())
        if progress.step % checkpoint_every == 0 or share_done(progress) >= 1:
            save_checkpoint(checkpoint, model, optimizers, recipe, progress)
            model.eval()
            on_checkpoint(progress)
            model.train()
    model.eval()
    return progress.step - first
