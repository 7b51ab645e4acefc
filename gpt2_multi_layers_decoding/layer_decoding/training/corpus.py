"""From a text file to batches of ids: documents, and windows of them in a seeded order."""

import lzma
import random
from pathlib import Path
from typing import Any

import torch

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.training.vocabulary import END_OF_TEXT

SHORTEST_DOCUMENT = 200  # characters; shorter pieces are titles and leftovers
HELD_OUT_SHARE = 50  # one document in fifty is never trained on


def read_documents(path: Path) -> tuple[list[str], list[str]]:
    """Training and held-out documents of a UTF-8 text file (or .xz of one), shuffled the same way every time.

    Documents are separated by lines that hold only <|endoftext|>. A text without such lines is cut at blank
    lines into stretches of about 2,000 characters.

    Raises:
        LayerDecodingError: the file cannot be read, is not UTF-8, or holds fewer than two documents.
    """
    try:
        raw = read_bytes(path)
        text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, lzma.LZMAError):
        raise LayerDecodingError(f"{path} is not UTF-8 text; convert it to UTF-8.") from None
    pieces = text.split(END_OF_TEXT) if END_OF_TEXT in text else _stretches(text)
    documents = [piece.strip() for piece in pieces if len(piece.strip()) > SHORTEST_DOCUMENT]
    if len(documents) < 2:
        raise LayerDecodingError(
            f"{path} holds {len(documents)} documents of more than {SHORTEST_DOCUMENT} characters; at least 2 are "
            "needed, one of them to score the model on."
        )
    random.Random(0).shuffle(documents)
    held_out = max(1, len(documents) // HELD_OUT_SHARE)
    return documents[held_out:], documents[:held_out]


def read_bytes(path: Path) -> bytes:
    """What a file holds; raises LayerDecodingError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LayerDecodingError(f"{path} cannot be read: {error.strerror}; give a text file.") from None


def _stretches(text: str, characters: int = 2000) -> list[str]:
    """A text without document marks, cut at blank lines once a stretch is long enough."""
    stretches = [""]
    for paragraph in text.split("\n\n"):
        if len(stretches[-1]) >= characters:
            stretches.append("")
        stretches[-1] += paragraph + "\n\n"
    return stretches


def encode_documents(tokenizer: Any, documents: list[str]) -> torch.Tensor:
    """All documents as one row of ids, each after an end-of-text: int64 [N]."""
    rows = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for row in rows for token in (tokenizer.eos_token_id, *row)])


class Windows:
    """The training ids cut into windows of context + 1, in an order of its own each epoch.

    Batch n depends on the seed and n alone: a resumed run sees what an unbroken one would have seen.
    """

    def __init__(self, ids: torch.Tensor, context: int, batch: int, seed: int) -> None:
        self.ids, self.context, self.batch_size, self.seed = ids, context, batch, seed
        self.per_epoch = (len(ids) - 1 - context) // context // batch
        if self.per_epoch < 1:
            raise UsageError(
                f"The text has {len(ids)} training tokens and one batch takes {context * (batch + 1) + 1}; "
                "give more text, or a smaller --batch or --context."
            )
        self.epoch = -1

    def __getitem__(self, step: int) -> torch.Tensor:
        """Batch `step`: int64 [batch, context + 1]."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            self._shuffle(epoch)
        starts = self.starts[index * self.batch_size : (index + 1) * self.batch_size]
        return self.ids[starts[:, None] + torch.arange(self.context + 1)]

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch `step` as ids to read and the ids that follow each: int64 [batch, context] twice."""
        windows = self[step]
        return windows[:, :-1], windows[:, 1:]

    def _shuffle(self, epoch: int) -> None:
        """Cut the ids at other places than the last epoch did, and put the windows in a new order."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        shift = int(torch.randint(self.context, (1,), generator=generator))
        count = (len(self.ids) - 1 - shift) // self.context
        self.starts = shift + self.context * torch.randperm(count, generator=generator)
        self.epoch = epoch
