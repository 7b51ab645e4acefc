"""The tokenizer of a model: read from its files, and refused where it is not that of the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def read_tokenizer(
    folder: Path, place: Path, config: "PreTrainedConfig", *, as_it_stands: bool, **options: str
) -> "PreTrainedTokenizerBase":
    """The tokenizer in `folder`, checked against the vocabulary of `config`; `place` is what a refusal calls it by.

    `as_it_stands`: a tokenizer.json, or what a GGUF file says, and nothing else; else transformers' own choice of
    class. That choice would rebuild a GPT-2 tokenizer from its vocabulary and merges alone, losing normalisers and
    pre-tokenisers of a model trained elsewhere, and would read all of a GGUF file's header once more.
    """
    try:
        tokenizer = _read(folder, as_it_stands, options)
        if as_it_stands:
            _name_end_of_text(tokenizer, config)
        _check_vocabulary(tokenizer, text_config(config).vocab_size, place)
    except LayerDecodingError:
        raise
    except Exception as error:
        raise LayerDecodingError(
            f"The tokenizer in {place} cannot be read ({brief(error)}); copy its files from the original model again."
        ) from error
    return tokenizer


def _read(folder: Path, as_it_stands: bool, options: dict[str, Any]) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerBase
    if as_it_stands:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    return tokenizer


def _name_end_of_text(tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
    """Tell the tokenizer which of its special tokens ends a text, where only the model's config says so (gpt2's)."""
    ids: Any = getattr(config, "eos_token_id", None)
    token = tokenizer.added_tokens_decoder.get(ids) if isinstance(ids, int) else None
    if tokenizer.eos_token is None and token is not None and token.special:
        tokenizer.eos_token = token.content


def _check_vocabulary(tokenizer: "PreTrainedTokenizerBase", vocab_size: int, place: Path) -> None:
    """Refuse a tokenizer that knows no token, or one with an id that the model has no embedding for."""
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest < 0:
        raise LayerDecodingError(f"The tokenizer in {place} knows no token at all; copy its files again.")
    if highest >= vocab_size:
        raise LayerDecodingError(
            f"The tokenizer in {place} has ids up to {highest}, but the model's vocabulary ends at {vocab_size - 1};"
            " use the tokenizer that the model was trained with."
        )
