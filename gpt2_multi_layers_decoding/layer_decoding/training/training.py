"""The training of a small GPT-2: one step, and the loop.

Matrices inside the blocks learn with Muon, everything else with AdamW. The learning rate rises at first, stays, and
falls linearly over the last 40% of the run.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy

from layer_decoding.training.model import build_optimizers
from layer_decoding.training.recipe import Length, Progress, Recipe, derived_seed

WARM_UP_STEPS = 300
WARM_UP_SHARE = 0.05  # of the run, if that is shorter
COOL_DOWN_SHARE = 0.4
LAST_RATE = 0.005  # the share of the peak that the learning rate falls to
CHECKPOINT_STEPS = 250
TOLD_EVERY_SECONDS = 0.5  # to read the loss, a GPU has to be waited for


class Batches(Protocol):
    """What a model is trained on, in a seeded order: batch n is the same whatever came before it."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids to read and ids to predict, int64 [batch, positions] each; no loss is taken where a target is -100."""


class Watcher(Protocol):
    """Told how a run goes on."""

    def on_loss(self, progress: Progress, loss: float) -> None:
        """Called now and then, with the loss of the last step in nats a token."""

    def on_checkpoint(self, progress: Progress) -> None:
        """Called every 250 steps and at the end, the model in evaluation mode."""


class Trainer:
    """A model with its optimizers, and the next step of its training.

    bfloat16 halves the time or better where the processor multiplies it natively (AVX512-BF16, AMX, a recent GPU);
    weights and loss stay float32.
    """

    def __init__(
        self, model: Any, batches: Batches, recipe: Recipe, *, bfloat16: bool = False, compiled: bool = False
    ) -> None:
        self.model, self.batches, self.recipe = model, batches, recipe
        self.bfloat16 = bfloat16
        self.optimizers = build_optimizers(model, recipe.learning_rate)
        self._forward = torch.compile(self._loss_of) if compiled else self._loss_of

    def take_step(self, number: int, rate: float) -> torch.Tensor:
        """Learn from batch `number` at a learning rate: the loss, in nats a token, where the model is."""
        # What a step drops is its own too, so that a resumed run drops what an unbroken one would have dropped.
        torch.manual_seed(derived_seed(self.recipe.seed, number))
        inputs, targets = (ids.to(self.model.device) for ids in self.batches.batch(number))
        loss = self._forward(inputs, targets)
        loss.backward()
        muon, adamw = self.optimizers
        torch.nn.utils.clip_grad_norm_(adamw.param_groups[0]["params"], 1.0)  # Muon's steps have one length anyway
        for optimizer in (muon, adamw):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def _loss_of(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch; a tensor of no dimension."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.model(inputs, use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def step_seconds(model: Any, batches: Batches, recipe: Recipe, bfloat16: bool, first: int) -> float:
    """How long a step takes here and now, uncompiled: measured on a copy of the model, which is thrown away."""
    trainer = Trainer(deepcopy(model).train(), batches, recipe, bfloat16=bfloat16)
    trainer.take_step(first, 0.0)  # the first is slower: memory is taken, kernels are loaded
    started = time.monotonic()
    trainer.take_step(first, 0.0).item()
    return time.monotonic() - started


def learning_rate_share(step: int, done: float) -> float:
    """Share of the peak learning rate at a step, `done` (0 to 1) being the share of the run behind it."""
    return min(1.0, max((step + 1) / WARM_UP_STEPS, done / WARM_UP_SHARE), max(LAST_RATE, (1 - done) / COOL_DOWN_SHARE))


def train(
    trainer: Trainer, progress: Progress, length: Length, save: Callable[[Progress], None], watcher: Watcher
) -> int:
    """Train until the length is reached: the steps taken. `progress` is where to begin, and is kept up to date.

    `save(progress)` is called every 250 steps and at the end, before the watcher is.
    """
    model, first = trainer.model, progress.step
    model.train()
    told, started = 0.0, time.monotonic()
    while (done := length.share_done(progress)) < 1:
        loss = trainer.take_step(progress.step, trainer.recipe.learning_rate * learning_rate_share(progress.step, done))
        progress.step += 1
        now = time.monotonic()
        progress.seconds += now - started
        started = now
        due = progress.step % CHECKPOINT_STEPS == 0 or length.share_done(progress) >= 1
        if due or now - told >= TOLD_EVERY_SECONDS:
            watcher.on_loss(progress, loss.item())
            told = now
        if due:
            save(progress)
            model.eval()
            watcher.on_checkpoint(progress)
            model.train()
            started = time.monotonic()  # neither saving nor scoring is training
    model.eval()
    return progress.step - first
