"""Questions and their answers: read from a file, as batches to train on, and answered by a trained model.

A dialogue is the ids of its question, a newline, its answer and end-of-text. Nothing stands before the question, so
that a question typed as a prompt has the positions it was learnt at. No loss is taken on the question: the model
learns what to write after it, newline included, so that it answers a prompt that ends without one too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.training.corpus import read_bytes, refuse_zero_bytes
from layer_decoding.training.recipe import derived_seed
from layer_decoding.training.vocabulary import END_OF_TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


SEPARATOR = "\n"
NOT_LEARNT = -100  # a target that cross_entropy leaves out
SCORED_AT_ONCE = 64
Pair = tuple[torch.Tensor, torch.Tensor]  # ids read and ids to predict, int64 [P + T] each


@dataclass(frozen=True)
class Dialogue:
    """A question and its answer; `place` is the file and line, for errors."""

    question: str
    answer: str
    place: str


def read_dialogues(path: Path) -> list[Dialogue]:
    """The dialogues of a UTF-8 file, a line each: question, tab, answer. Empty lines are skipped.

    Raises:
        LayerDecodingError: the file cannot be read or has no dialogue, or a line is not one; it says which.
    """
    lines = enumerate(read_bytes(path).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    dialogues = [
        _dialogue(raw.removesuffix(b"\r"), f"{path}, line {number}") for number, raw in lines if raw.strip(b" \r")
    ]
    if not dialogues:
        raise LayerDecodingError(f"{path} holds no dialogue; write one a line: question, tab, answer.")
    return dialogues


def _dialogue(raw: bytes, place: str) -> Dialogue:
    """One line as a dialogue, spaces around its sides dropped."""
    try:
        sides = [side.strip() for side in raw.decode().split("\t")]
    except UnicodeDecodeError as error:
        raise LayerDecodingError(
            f"{place}, is not UTF-8 text: byte {error.start} is 0x{raw[error.start]:02x}; convert the file to UTF-8."
        ) from None
    if len(sides) != 2:
        tabs = f"{len(sides) - 1} tabs" if len(sides) > 2 else "no tab"
        raise LayerDecodingError(f"{place}, has {tabs}; put one between the question and its answer.")
    if "" in sides:
        empty = "question" if not sides[0] else "answer"
        raise LayerDecodingError(f"{place}, has an empty {empty}; write both sides of the tab.")
    refuse_zero_bytes("\t".join(sides), place)
    if END_OF_TEXT in raw.decode():
        raise LayerDecodingError(f"{place}, has {END_OF_TEXT} in it, which would end it there; take it out.")
    return Dialogue(sides[0], sides[1], place)


def prompt_of(tokenizer: "PreTrainedTokenizerBase", question: str) -> list[int]:
    """The ids after which a model writes the answer, P of them: question and separator."""
    return [id_ for text in (question, SEPARATOR) for id_ in tokenizer.encode(text, add_special_tokens=False)]


def encode_dialogues(tokenizer: Any, dialogues: Sequence[Dialogue], context: int) -> list[Pair]:
    """What to read and what to predict for each dialogue; NOT_LEARNT up to the separator.

    Raises:
        UsageError: a dialogue is longer than the context.
    """
    separator_length = len(prompt_of(tokenizer, ""))
    pairs = []
    for dialogue in dialogues:
        prompt = prompt_of(tokenizer, dialogue.question)
        answer = tokenizer.encode(dialogue.answer, add_special_tokens=False)
        ids = torch.tensor([*prompt, *answer, tokenizer.eos_token_id])
        if len(ids) > context:
            raise UsageError(
                f"{dialogue.place}, has {len(ids)} tokens with its end, and the context is {context};"
                " shorten it, or give a larger context.",
                settings=("context",),
            )
        targets = ids[1:].clone()
        targets[: len(prompt) - separator_length - 1] = NOT_LEARNT
        pairs.append((ids[:-1], targets))
    return pairs


class DialogueBatches:
    """Dialogues in an order of its own each epoch, every one of them once an epoch, in batches of nearly one size.

    Batch n depends on the seed and n alone: a resumed run sees what an unbroken one would have seen.
    """

    def __init__(self, pairs: list[Pair], batch: int, seed: int) -> None:
        self.pairs, self.seed = pairs, seed
        self.per_epoch = -(-len(pairs) // batch)

    def batch(self, step: int) -> Pair:
        """Batch `step`, padded to its longest dialogue: int64 [batch, P + T] twice."""
        epoch, index = divmod(step, self.per_epoch)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        order = torch.randperm(len(self.pairs), generator=generator)
        return padded([self.pairs[at] for at in order.tensor_split(self.per_epoch)[index].tolist()])


def padded(pairs: Sequence[Pair]) -> Pair:
    """Dialogues side by side, the shorter ones filled with ids that nothing before them sees and nothing learns."""
    inputs, targets = [ids for ids, _ in pairs], [ids for _, ids in pairs]
    return pad_sequence(inputs, True, 0), pad_sequence(targets, True, NOT_LEARNT)


def recall(model: "PreTrainedModel", pairs: Sequence[Pair]) -> tuple[float, int]:
    """Nats a learnt token, and how many answers a greedy decode would write exactly as they stand, end included."""
    nats, tokens, exact = 0.0, 0, 0
    with torch.inference_mode():
        for start in range(0, len(pairs), SCORED_AT_ONCE):
            inputs, targets = (ids.to(model.device) for ids in padded(pairs[start : start + SCORED_AT_ONCE]))
            logits = model(inputs, use_cache=False).logits.float()
            nats += cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").item()
            tokens += int((targets != NOT_LEARNT).sum())
            exact += int(((logits.argmax(-1) == targets) | (targets == NOT_LEARNT)).all(1).sum())
    return nats / tokens, exact


def answer(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", question: str) -> tuple[str, bool]:
    """The greedy answer up to end-of-text, and whether it came to that before the context was full.

    Raises:
        UsageError: the question alone fills the context.
    """
    from layer_decoding.decoding.greedy import decode_layers
    from layer_decoding.terminal.pieces import Pieces

    prompt, last = prompt_of(tokenizer, question), model.config.num_hidden_layers
    room = max(1, model.config.max_position_embeddings - len(prompt))
    row = decode_layers(model, prompt, room, context="own", layers=[last], measures=False).final_row
    return Pieces(tokenizer).text(row.ids), row.finished
