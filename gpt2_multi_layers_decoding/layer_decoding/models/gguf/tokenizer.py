"""The tokenizer that a GGUF file describes in its metadata."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError
from layer_decoding.models.gguf.splitting import keeps_whole_words, patterns, pre_tokenizer
from layer_decoding.models.tokenizer import SAMPLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_LEVEL = "gpt2"  # what llama.cpp calls BPE over bytes; only these name how a text is split


def build_tokenizer(file: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer by the metadata of `file` alone, whatever else lies beside it.

    Raises:
        LayerDecodingError: the file names a way to split a text that is not known here.
    """
    from transformers import PreTrainedTokenizerFast
    from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer, get_gguf_tokenizer

    architecture, described, settings = get_gguf_tokenizer(str(file))
    backend, _ = convert_gguf_tokenizer(architecture, described)
    name = described.get("pre_tokenizer_type")
    if described.get("tokenizer_type") == _BYTE_LEVEL:
        if name is not None:
            _follow(backend, settings, name, file)
        _check_bytes(backend, file)
    elif described.get("add_prefix_space") is False:
        _without_prefix_space(backend)
    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
    return tokenizer


def _without_prefix_space(backend: Any) -> None:
    """Put no space before a text where the file says so, which transformers does not read for SentencePiece."""
    from tokenizers import pre_tokenizers
    from transformers import LlamaTokenizer

    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        plain = LlamaTokenizer(vocab={"<unk>": 0}, merges=[], add_prefix_space=False).backend_tokenizer
        backend.pre_tokenizer, backend.decoder = plain.pre_tokenizer, plain.decoder


def _follow(backend: Any, settings: dict[str, Any], name: str, file: Path) -> None:
    """Split as the file says: `name` is its name for the way."""
    split = patterns(name)
    if split is None:
        raise LayerDecodingError(
            f"{file} splits a text by the rule {name!r}, which is not known here, so that its tokens would be others"
            " than the model's; take the model as a folder with its tokenizer.json and safetensors."
        )
    backend.pre_tokenizer = pre_tokenizer(split)
    if keeps_whole_words(name):
        backend.model.ignore_merges = True
        settings.setdefault("add_bos_token", True)


def _check_bytes(backend: Any, file: Path) -> None:
    """Refuse a tokenizer over bytes that does not give a text back."""
    from tokenizers import pre_tokenizers

    if not set(pre_tokenizers.ByteLevel.alphabet()) <= backend.get_vocab().keys():
        return  # not every text can be written in this one
    ids = backend.encode(SAMPLE, add_special_tokens=False).ids
    if backend.decode(ids) != SAMPLE:
        raise LayerDecodingError(f"The tokenizer in {file} does not give a text back; copy the file again.")
