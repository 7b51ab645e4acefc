"""The two kinds of data a model is trained on, seen alike: texts for the tokenizer, batches, a score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError
from layer_decoding.training.choosing import Amount
from layer_decoding.training.corpus import cut_if_few, documents_of, read_documents
from layer_decoding.training.dialogues import (
    NOT_LEARNT,
    DialogueBatches,
    Pair,
    encode_dialogues,
    read_dialogues,
    recall,
)
from layer_decoding.training.recipe import Recipe
from layer_decoding.training.training import Batches
from layer_decoding.training.windows import Windows, bits_per_byte, encode_documents

SCORED_WINDOWS = 40  # of the held-out text, at each checkpoint; --score takes the whole of it
SCORED_DIALOGUES = 256  # at each checkpoint, evenly spaced; --score takes them all


@dataclass(frozen=True)
class Prepared:
    """Data in the tokens of a run: how much there is, its batches, and a line on what a model has learnt of it."""

    size: str
    batches: Batches
    steps_an_epoch: int
    score: Callable[[Any], str]


class Documents:
    """A text as documents, of which some are held out and scored in bits per byte.

    Those held out are one in fifty, or all of another file; what of that file stands in the text too is not learnt.
    """

    def __init__(self, path: Path, held_out: Path | None = None) -> None:
        if held_out is None:
            self.texts, self.held_out, repeated = *read_documents(path), 0
        else:
            self.texts, self.held_out, repeated = _apart(path, held_out)
        self.amount = Amount(sum(len(text.encode()) for text in self.texts))
        left_out = f" ({repeated:,} of them stand in the text too and are left out there)" if repeated else ""
        self.summary = (
            f"{self.amount.byte_count:,} bytes in {len(self.texts):,} documents to learn from, "
            f"{len(self.held_out):,} held out{left_out}"
        )

    def prepare(self, tokenizer: Any, recipe: Recipe, device: str = "cpu") -> Prepared:
        """The training documents as windows, on the device; raises UsageError if they are too few for a batch."""
        ids, held_out = encode_documents(tokenizer, self.texts), encode_documents(tokenizer, self.held_out)
        windows = Windows(ids.to(device), recipe.context, recipe.batch, recipe.seed)
        size = f"{len(ids):,} training tokens, {len(held_out):,} held out"
        return Prepared(
            size, windows, windows.per_epoch, lambda model: f"held-out {self._score(model, held_out, SCORED_WINDOWS)}"
        )

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
        longest = max(len(f"{dialogue.question}{dialogue.answer}".encode()) for dialogue in self.dialogues)
        self.amount = Amount(sum(len(text.encode()) for text in self.texts), longest)
        self.summary = f"{self.amount.byte_count:,} bytes in {len(self.dialogues):,} dialogues"

    def prepare(self, tokenizer: Any, recipe: Recipe, device: str = "cpu") -> Prepared:  # noqa: ARG002
        """The dialogues as batches; raises UsageError if one is longer than the context."""
        pairs = encode_dialogues(tokenizer, self.dialogues, recipe.context)
        scored = pairs[:: -(-len(pairs) // SCORED_DIALOGUES)]
        size = f"{len(pairs):,} dialogues, {_learnt(pairs):,} tokens to write"
        batches = DialogueBatches(pairs, recipe.batch, recipe.seed)
        return Prepared(size, batches, batches.per_epoch, lambda model: _recall(model, scored))

    def report(self, model: Any, tokenizer: Any) -> list[str]:
        """How many answers a trained model has by heart."""
        pairs = encode_dialogues(tokenizer, self.dialogues, model.config.max_position_embeddings)
        return [f"{len(pairs):,} dialogues, {_learnt(pairs):,} tokens scored", _recall(model, pairs)]


def _apart(path: Path, held_out: Path) -> tuple[list[str], list[str], int]:
    """The documents of a text that another file does not hold, those of that file, and how many are in both."""
    scored = documents_of(held_out)
    if not scored:
        raise LayerDecodingError(f"{held_out} is empty; give a text to score the model on.", settings=("held_out",))
    known = set(scored)
    documents = documents_of(path)
    texts = [document for document in documents if document not in known]
    if not texts:
        raise LayerDecodingError(f"{path} holds no text beside what is held out; give more text.")
    return cut_if_few(texts), scored, len(documents) - len(texts)


def _learnt(pairs: Sequence[Pair]) -> int:
    return sum(int((targets != NOT_LEARNT).sum()) for _, targets in pairs)


def _recall(model: Any, pairs: Sequence[Pair]) -> str:
    nats, exact = recall(model, pairs)
    return f"{nats:.4f} nats a token, {exact:,} of {len(pairs):,} answers exact"
