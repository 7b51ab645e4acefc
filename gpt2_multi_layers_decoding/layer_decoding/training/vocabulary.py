"""Learning a tokenizer: byte-level, as GPT-2's, of pieces of words or of single characters.

Both start from the 256 bytes and merge what often stands together, so that any text can be written and comes back
as it was: a character that was never seen is the tokens of its bytes, up to four. For `characters` the text to learn
from is cut into single characters first, and no merge reaches beyond one.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


END_OF_TEXT = "<|endoftext|>"
Kind = Literal["bpe", "characters"]


def train_tokenizer(texts: Iterable[str], kind: Kind, vocabulary: int, context: int) -> "PreTrainedTokenizerBase":
    """A tokenizer of at most `vocabulary` tokens; <|endoftext|> is the one special token, id 0."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    characters = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe = Tokenizer(models.BPE())
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.pre_tokenizer = characters if kind == "characters" else words
    bpe.train_from_iterator(texts, trainer)
    # Merges within characters give the same ids however the text is cut, and with GPT-2's own cutting the file is
    # one that every program for GPT-2 reads.
    bpe.pre_tokenizer = words
    return wrapped(bpe, context)


def kept_tokenizer(text: str, context: int) -> "PreTrainedTokenizerBase":
    """The tokenizer that a checkpoint keeps as the text of its tokenizer.json."""
    from tokenizers import Tokenizer

    return wrapped(Tokenizer.from_str(text), context)


def wrapped(bpe: "Tokenizer", context: int) -> "PreTrainedTokenizerBase":
    """A tokenizer as transformers has it, which knows the end of text and the longest one a model takes."""
    from transformers import PreTrainedTokenizerFast

    ends = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=context, **ends)
    return tokenizer
