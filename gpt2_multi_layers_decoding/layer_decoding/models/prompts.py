"""From a prompt to token ids: as a text to go on with, or as a question in a chat."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, UsageError, brief
from layer_decoding.models.sizes import context_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MANY_PIECES = 5


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


def prompt_advice(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[str]:
    """What of a prompt is probably not read as its writer meant it, a sentence each, the likeliest slip first."""
    said = []
    bare = text.rstrip(" ")
    if bare and bare != text and _begins_words_with_a_space(tokenizer):
        said.append(
            "The prompt ends in a space, which the model reads as a token of its own, since its words begin with their"
            f" space; type {bare[-20:]!r} without it."
        )
    ids = tokenizer.encode(text, add_special_tokens=False)
    unknown: Any = tokenizer.unk_token_id
    if unknown is not None and unknown in ids and str(tokenizer.unk_token) not in text:
        said.append(f"Something in the prompt has no token, and the model reads {tokenizer.unk_token} in its place.")
    if text.startswith(" ") and text.strip():
        said.append(
            "The prompt begins with a space, so the model reads its first word as one from the middle of a text."
        )
    longest = max(text.split(), key=lambda word: _pieces_of(tokenizer, word), default="")
    pieces = _pieces_of(tokenizer, longest)
    if longest.isalpha() and pieces >= _MANY_PIECES:
        said.append(f"{longest[:40]!r} is {pieces} tokens to this model, which reads it piece by piece.")
    return said


def shortened(model: "PreTrainedModel", ids: list[int], max_new_tokens: int) -> list[int]:
    """The last ids of a prompt that leave so many new tokens room in the model's context; all of them where they do."""
    context = context_length(model)
    room = len(ids) if context is None else context - max_new_tokens
    return ids[-room:] if 0 < room < len(ids) else ids


def _begins_words_with_a_space(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a space belongs to the word after it, so that one alone is another token than that word begins with."""
    word, space = (tokenizer.encode(text, add_special_tokens=False) for text in ("a", "a "))
    both = tokenizer.encode("a a", add_special_tokens=False)
    return bool(both != space + word)


def _pieces_of(tokenizer: "PreTrainedTokenizerBase", word: str) -> int:
    return len(tokenizer.encode(f" {word}", add_special_tokens=False))


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
