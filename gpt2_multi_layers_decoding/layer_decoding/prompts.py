"""From a prompt to token ids: as a text to go on with, or as a question in a chat."""

from typing import TYPE_CHECKING

from layer_decoding.errors import LayerDecodingError, UsageError, brief

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """The ids of `text` to continue from: what the tokenizer puts before it is kept, what it adds after is left out.

    A special token spelt out in `text`, such as ``<|endoftext|>``, is that token. A closing token ([SEP] of the BERT
    tokenizers that Chinese GPT-2s use) would end the text before it is continued.
    """
    # What comes before is read off a letter, since in `text` itself a token could be typed or added.
    letter = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a")
    starts = range(len(framed) - len(letter) + 1)
    start = next((at for at in starts if framed[at : at + len(letter)] == letter), 0)
    return [*framed[:start], *tokenizer.encode(text, add_special_tokens=False)]


def encode_chat(tokenizer: "PreTrainedTokenizerBase", question: str) -> tuple[str, list[int]]:
    """A question in the words of the tokenizer's chat template, up to where the answer begins, and the ids of that.

    The template writes its special tokens itself, so that the tokenizer adds none.

    Raises:
        UsageError: the tokenizer has no chat template.
        LayerDecodingError: the template fails.
    """
    if not tokenizer.chat_template:
        raise UsageError("The model's tokenizer has no chat template; leave --chat out, or use a model made for chat.")
    messages = [{"role": "user", "content": question}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        raise LayerDecodingError(
            f"The chat template of the model's tokenizer fails ({brief(error)}); leave --chat out."
        ) from error
    return text, tokenizer.encode(text, add_special_tokens=False)
