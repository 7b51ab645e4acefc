"""Who wrote a token: the difference of two logits, as a sum over the parts of the model. Plain Python, no torch."""

import math
from dataclasses import dataclass
from typing import Literal

PartName = Literal["embeddings", "attention", "mlp", "norm bias", "head bias"]


@dataclass(frozen=True)
class Contribution:
    """What one part adds to the difference, in logits.

    Of a layer whose attention is split, each head is a part, and so is what that attention adds whatever its heads
    say, if anything (`head` None).
    """

    part: PartName
    layer: int | None  # the block; None for what is in no block
    logit: float
    head: int | None = None  # from 1

    @property
    def name(self) -> str:
        """How it is called where there is room for words.

        >>> Contribution("attention", 9, 0.5, head=3).name
        'attention 9, head 3'
        """
        named = self.part if self.layer is None else f"{'MLP' if self.part == 'mlp' else self.part} {self.layer}"
        return named if self.head is None else f"{named}, head {self.head}"


@dataclass(frozen=True)
class Why:
    """Why the last layer prefers `token` to `against` at a step: its difference of their logits, part by part.

    `written_ids` are the tokens between the prompt and the step. The final norm's scale is held as it is there.
    """

    step: int
    layer_count: int
    prompt_ids: tuple[int, ...]
    written_ids: tuple[int, ...]
    token: int
    against: int
    difference: float  # as the model gives it, before a soft cap
    parts: tuple[Contribution, ...]  # from the embeddings up
    soft_cap: float | None = None

    @property
    def total(self) -> float:
        """What the parts add up to."""
        return math.fsum(part.logit for part in self.parts)

    @property
    def missing(self) -> float:
        """What the parts lack of the difference: rounding."""
        return self.difference - self.total
