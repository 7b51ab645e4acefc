"""From a prompt to token ids: as a text to go on with, or as a question in a chat."""

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, UsageError, brief

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of `text` to continue from: what the tokenizer puts before it is kept, what it adds after is left out.

    A special token spelt out in `text`, such as ``<|endoftext|>``, is that token. A closing token ([SEP] of the BERT
    tokenizers that Chinese GPT-2s use) would end the text before it is continued.
    """
    try:
        ids = tokenizer.encode(text, add_special_tokens=False)
    except Exception as error:
        raise UsageError(
            f"The prompt cannot be written in the model's tokens ({brief(error)}); leave out what is not in them."
        ) from error
    return [*_ids_before(tokenizer), *ids]


def _ids_before(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What the tokenizer puts before any text: its own words are told from it by the mask that it gives with them."""
    for word in _words(tokenizer):
        try:
            framed = tokenizer(word, return_special_tokens_mask=True, verbose=False)
        except Exception:  # neither a token for the word nor one for the unknown
            continue
        mask: Any = framed["special_tokens_mask"]
        if 0 in mask:
            ids: Any = framed["input_ids"]
            return list(ids[: mask.index(0)])
    return []


def _words(tokenizer: "PreTrainedTokenizerBase") -> Iterator[str]:
    """Short texts, one of which has a token in any vocabulary: a letter, else what the tokens themselves stand for."""
    yield "a"
    special = set(tokenizer.all_special_ids)
    for token in sorted(tokenizer.get_vocab().values()):
        if token not in special:
            yield str(tokenizer.decode([token]))


def encode_chat(tokenizer: "PreTrainedTokenizerBase", question: str) -> tuple[str, list[int]]:
    """A question in the words of the tokenizer's chat template, up to where the answer begins, and the ids of that.

    The template writes its special tokens itself, so that the tokenizer adds none.

    Raises:
        UsageError: the tokenizer has no chat template.
        LayerDecodingError: the template fails.
    """
    if not tokenizer.chat_template:
        raise UsageError(
            "The model's tokenizer has no chat template; give the question as a plain text, or use a model made for"
            " chat.",
            settings=("chat", "model"),
        )
    messages = [{"role": "user", "content": question}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        raise LayerDecodingError(
            f"The chat template of the model's tokenizer fails ({brief(error)}); give the question as a plain text.",
            settings=("chat",),
        ) from error
    return text, tokenizer.encode(text, add_special_tokens=False)


_PIECE_CHARACTERS = 2**16
# Before the space of a word, or at the beginning of a line that has text on both sides of the newline: GPT-2's
# rule for splitting a text into words puts a boundary there whatever else stands around it.
_SEAM = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


def encode_text(tokenizer: Any, text: str, prefix: Sequence[int] = ()) -> "array[int]":
    """The ids of a text after those that the tokenizer puts before any, four bytes each.

    A long text is taken piece by piece: tokenizing it whole holds some hundred bytes a token.
    """
    ids = array("i", prefix)
    for piece in _pieces(text) if _splits_at_seams(tokenizer) else [text]:
        ids.extend(tokenizer.encode(piece, add_special_tokens=False))
    return ids


def _pieces(text: str) -> Iterator[str]:
    """A text cut at seams, into pieces that are a little longer than _PIECE_CHARACTERS."""
    start = 0
    while start < len(text):
        seam = _SEAM.search(text, start + _PIECE_CHARACTERS)
        end = seam.start() if seam else len(text)
        yield text[start:end]
        start = end


def _splits_at_seams(tokenizer: Any) -> bool:
    """Whether it is known that pieces give the ids of the whole: GPT-2's splitting, and nothing that reaches across."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer written in Python
        return False
    splitting, normalizer = backend.pre_tokenizer, backend.normalizer
    is_gpt2 = type(splitting).__name__ == "ByteLevel" and splitting.use_regex and not splitting.add_prefix_space
    added = tokenizer.added_tokens_decoder.values()
    return is_gpt2 and normalizer is None and not any(t.lstrip or t.rstrip or _SEAM.search(t.content) for t in added)
