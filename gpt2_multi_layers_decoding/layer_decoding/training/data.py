"""The two kinds of data a model is trained on, seen alike: texts for the tokenizer, batches, a score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layer_decoding.training.corpus import Windows, encode_documents, read_documents
from layer_decoding.training.dialogues import (
    NOT_LEARNT,
    DialogueBatches,
    Pair,
    encode_dialogues,
    read_dialogues,
    recall,
)
from layer_decoding.training.training import SCORED_WINDOWS, Batches, Recipe, bits_per_byte

SCORED_DIALOGUES = 256  # at each checkpoint, evenly spaced; --score takes them all


@dataclass(frozen=True)
class Prepared:
    """Data in the tokens of a run: how much there is, its batches, and a line on what a model has learnt of it."""

    size: str
    batches: Batches
    score: Callable[[Any], str]


class Documents:
    """A text as documents, of which some are held out and scored in bits per byte."""

    def __init__(self, path: Path) -> None:
        self.texts, self.held_out = read_documents(path)

    def prepare(self, tokenizer: Any, recipe: Recipe) -> Prepared:
        """The training documents as windows; raises UsageError if they are too few for a batch."""
        ids, held_out = encode_documents(tokenizer, self.texts), encode_documents(tokenizer, self.held_out)
        windows = Windows(ids, recipe.context, recipe.batch, recipe.seed)
        size = f"{len(ids):,} training tokens, {len(held_out):,} held out"
        return Prepared(size, windows, lambda model: f"held-out {self._score(model, held_out, SCORED_WINDOWS)}")

    def report(self, model: Any, tokenizer: Any) -> list[str]:
        """How well a trained model predicts all that is held out."""
        ids = encode_documents(tokenizer, self.held_out)
        heading = f"{len(self.held_out)} held-out documents, {len(ids) - 1:,} tokens scored"
        return [heading, self._score(model, ids)]

    def _score(self, model: Any, ids: torch.Tensor, windows: int | None = None) -> str:
        byte_count = sum(len(document.encode()) for document in self.held_out)
        nats, bits = bits_per_byte(model, ids, byte_count, windows)
        return f"{nats:.4f} nats a token, {bits:.4f} bits a byte"


class Dialogues:
    """Questions with their answers, all of them learnt, and scored by how many answers come out exactly."""

    def __init__(self, path: Path) -> None:
        self.dialogues = read_dialogues(path)
        self.texts = [text for dialogue in self.dialogues for text in (dialogue.question, dialogue.answer)]

    def prepare(self, tokenizer: Any, recipe: Recipe) -> Prepared:
        """The dialogues as batches; raises UsageError if one is longer than the context."""
        pairs = encode_dialogues(tokenizer, self.dialogues, recipe.context)
        scored = pairs[:: -(-len(pairs) // SCORED_DIALOGUES)]
        size = f"{len(pairs):,} dialogues, {_learnt(pairs):,} tokens to write"
        return Prepared(size, DialogueBatches(pairs, recipe.batch, recipe.seed), lambda model: _recall(model, scored))

    def report(self, model: Any, tokenizer: Any) -> list[str]:
        """How many answers a trained model has by heart."""
        pairs = encode_dialogues(tokenizer, self.dialogues, model.config.max_position_embeddings)
        return [f"{len(pairs):,} dialogues, {_learnt(pairs):,} tokens scored", _recall(model, pairs)]


def _learnt(pairs: Sequence[Pair]) -> int:
    return sum(int((targets != NOT_LEARNT).sum()) for _, targets in pairs)


def _recall(model: Any, pairs: Sequence[Pair]) -> str:
    nats, exact = recall(model, pairs)
    return f"{nats:.4f} nats a token, {exact:,} of {len(pairs):,} answers exact"
