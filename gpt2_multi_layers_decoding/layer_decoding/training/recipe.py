"""What decides a model's weights, apart from its text: the recipe, how long to train, how far a run has come."""

from dataclasses import dataclass

from layer_decoding.training.vocabulary import Kind


@dataclass(frozen=True)
class Recipe:
    """Shape and learning. A checkpoint belongs to one recipe."""

    layers: int
    width: int
    heads: int
    context: int
    vocabulary: int
    batch: int
    learning_rate: float
    dropout: float = 0.0
    seed: int = 0
    tokenizer: Kind = "bpe"


@dataclass
class Progress:
    """How far a run has come; `seconds` counts training alone."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Length:
    """How long to train: for a number of steps, else for so many seconds of training."""

    steps: int | None
    seconds: float = 0.0

    def share_done(self, progress: Progress) -> float:
        """The share of the run that is behind; 1 or more when it is over."""
        return progress.seconds / self.seconds if self.steps is None else progress.step / self.steps

    def steps_left(self, progress: Progress, step_seconds: float) -> int:
        """The steps still to take, if each takes as long as that."""
        if self.steps is not None:
            return max(0, self.steps - progress.step)
        return max(0, round((self.seconds - progress.seconds) / step_seconds))


def derived_seed(seed: int, number: int) -> int:
    """A seed for one epoch or step of a run, within the 63 bits that torch takes, whatever whole number `seed` is."""
    return int((seed * 100_003 + number) % 2**63)
