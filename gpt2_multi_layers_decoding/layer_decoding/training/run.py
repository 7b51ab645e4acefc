"""A whole run: data, folder and recipe brought together, what to expect of it, and the model at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layer_decoding.errors import LayerDecodingError
from layer_decoding.models.devices import pick_device
from layer_decoding.training.choosing import choose, kept, measured_speed
from layer_decoding.training.data import Dialogues, Documents
from layer_decoding.training.folder import Folder, Origin, fingerprint
from layer_decoding.training.model import build_model, to_publish
from layer_decoding.training.recipe import Length, Progress, Recipe
from layer_decoding.training.training import Trainer, Watcher, step_seconds, train
from layer_decoding.training.vocabulary import kept_tokenizer, train_tokenizer

# Measured on children's stories; what comes when depends little on the size of the model.
WORDS_AFTER = 100
SENTENCES_AFTER = 2000


class Run:
    """Made ready to train, from the beginning or from where the folder's checkpoint left it.

    `given` holds what of the recipe is not to be chosen. `bfloat16` None takes it where a GPU has it.

    Raises:
        LayerDecodingError: the folder holds another model, another text's or another recipe's checkpoint, or the
            device is not there.
        UsageError: the data does not fill a batch of the recipe, or has a dialogue longer than its context.
    """

    def __init__(
        self,
        data: Documents | Dialogues,
        out: Path,
        given: Mapping[str, Any],
        length: Length,
        device: str = "auto",
        *,
        bfloat16: bool | None = None,
        compiled: bool = False,
    ) -> None:
        self.data, self.length, self.folder = data, length, Folder(out)
        self.device, _ = pick_device(device)
        self.bfloat16 = _has_bfloat16(self.device) if bfloat16 is None else bfloat16
        self.compiled = compiled
        saved = self.folder.open()
        self.progress = saved[1] if saved else Progress()
        self.origin, self.tokenizer = self._kept(saved[0], given) if saved else self._begun(given)
        recipe = self.origin.recipe
        self.prepared = data.prepare(self.tokenizer, recipe, self.device)
        self.model = build_model(recipe, len(self.tokenizer), self.tokenizer.eos_token_id, self.device)
        self.trainer = Trainer(
            self.model, self.prepared.batches, recipe, bfloat16=self.bfloat16, compiled=self.compiled
        )
        if saved:
            self.folder.restore(self.model, self.trainer.optimizers)

    @property
    def recipe(self) -> Recipe:
        """What was given, chosen or kept."""
        return self.origin.recipe

    def plan(self) -> list[str]:
        """What will be learnt by what model, how, and what to expect; takes the time of two steps."""
        recipe, parameters = self.recipe, self.model.num_parameters()
        lines = [
            f"{self.data.summary}: {self.prepared.size}",
            f"{recipe.layers} layers of width {recipe.width}, {recipe.heads} heads, context {recipe.context}, "
            f"vocabulary {len(self.tokenizer):,}: {parameters:,} parameters",
            f"Batches of {recipe.batch}, learning rate {recipe.learning_rate:g}, dropout {recipe.dropout:g}, on "
            f"{self.device} in {'bfloat16' if self.bfloat16 else 'float32'}",
        ]
        return lines if self.length.share_done(self.progress) >= 1 else [*lines, self._expectation()]

    def train(self, watcher: Watcher) -> int:
        """Train to the length: the steps taken, 0 if the checkpoint had come as far; the folder then has the model."""
        taken = train(self.trainer, self.progress, self.length, self._save, watcher)
        self.folder.save_model(to_publish(self.model), self.tokenizer)
        return taken

    def score(self) -> str:
        """What the model has learnt so far, as a line."""
        return self.prepared.score(self.model)

    def _kept(self, origin: Origin, given: Mapping[str, Any]) -> tuple[Origin, Any]:
        """The origin and the tokenizer of the checkpoint, if it is one of this text and recipe."""
        if origin.text != fingerprint(self.data.texts):
            raise LayerDecodingError(
                f"{self.folder.path} holds a model that learns another text, and goes on with that alone; give "
                "the same text, or choose another folder.",
                settings=("out",),
            )
        kept(origin.recipe, given, str(self.folder.path))
        return origin, kept_tokenizer(origin.tokenizer, origin.recipe.context)

    def _begun(self, given: Mapping[str, Any]) -> tuple[Origin, Any]:
        """The recipe chosen and the tokenizer learnt."""
        recipe = choose(given, self.data.amount, self.length, self.device, measured_speed(self.device))
        tokenizer: Any = train_tokenizer(self.data.texts, recipe.tokenizer, recipe.vocabulary, recipe.context)
        text = fingerprint(self.data.texts)
        return Origin(recipe, text, tokenizer.backend_tokenizer.to_str()), tokenizer

    def _save(self, progress: Progress) -> None:
        self.folder.save_checkpoint(self.model, self.trainer.optimizers, self.origin, progress)

    def _expectation(self) -> str:
        """How many steps there is time for, and what a model can do after as many."""
        seconds = step_seconds(self.model, self.prepared.batches, self.recipe, self.bfloat16, self.progress.step)
        steps = self.length.steps_left(self.progress, seconds)
        return (
            f"About {_rounded(steps)} steps in {_duration(steps * seconds)}, "
            f"{steps / self.prepared.steps_an_epoch:.1f} times through the data{self._outlook(steps)}."
        )

    def _outlook(self, steps: int) -> str:
        """What a reader can hope for, of a text; the steps behind count too."""
        if isinstance(self.data, Dialogues):
            return ""
        if self.progress.step + steps < WORDS_AFTER:
            return f"; whole words begin to come after some {WORDS_AFTER}: give it more time, or a smaller shape"
        if self.progress.step + steps < SENTENCES_AFTER:
            return f"; words will come, sentences begin to hold together after some {SENTENCES_AFTER:,}"
        return "; sentences will begin to hold together"


def _has_bfloat16(device: str) -> bool:
    """Whether a GPU multiplies bfloat16 natively; of a CPU torch does not say."""
    import torch

    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def _rounded(steps: int) -> str:
    """A number of steps to two digits: it is a guess."""
    return f"{round(steps, 1 - len(str(steps))) if steps > 99 else steps:,}"


def _duration(seconds: float) -> str:
    """Seconds as a reader would say them."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
