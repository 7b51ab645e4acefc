"""The tokenizer of a folder, and the checks that every tokenizer has to pass before a model is read with it."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError, brief, missing_package
from layer_decoding.models.sizes import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

TOKENIZER_FILE = "tokenizer.json"
# What tokenizers do differently: digits, blanks, line ends, contractions, accents in both forms, scripts, emoji.
SAMPLE = (
    "List:\n  1. It's 2024, I'LL\tsay na\u00efve or nai\u0308ve;\r\n\r\n    x = 3.14159 * y_0"
    "  # \u6771\u4eac, \u043c\u0438\u0440 \U0001f642!\n"
)


def read_tokenizer(
    build: Callable[[], "PreTrainedTokenizerBase"], place: Path, config: "PreTrainedConfig"
) -> "PreTrainedTokenizerBase":
    """What `build` makes of the files in `place`, once it is known to fit a model of `config`."""
    try:
        tokenizer = build()
        _name_ends(tokenizer, config)
        _check_sample(tokenizer, text_config(config).vocab_size, place)
    except LayerDecodingError:
        raise
    except Exception as error:
        raise LayerDecodingError(_unreadable(error, place)) from error
    return tokenizer


def build_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder: its tokenizer.json as it stands, else transformers' own choice of class.

    With a tokenizer.json, too, that choice builds some classes anew from vocabulary and merges alone, and what the
    file says of normalising and splitting is lost: the model would read tokens that it never saw.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerBase
    if not (folder / TOKENIZER_FILE).is_file():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return tokenizer
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    _check_ids(tokenizer, folder / TOKENIZER_FILE)
    return tokenizer


def _check_ids(tokenizer: "PreTrainedTokenizerBase", file: Path) -> None:
    """Refuse a tokenizer that gives other ids than its tokenizer.json does by itself."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_file(str(file))
    plain.no_truncation()
    plain.no_padding()
    sample = _writable_sample(plain)
    if (
        tokenizer.encode(sample, add_special_tokens=False, verbose=False)
        != plain.encode(sample, add_special_tokens=False).ids
    ):
        from transformers import __version__

        raise LayerDecodingError(
            f"transformers {__version__} makes other tokens of a text than {file} does; use another version of it, or"
            " take what changes them out of the tokenizer_config.json beside it."
        )


def _writable_sample(backend: Any) -> str:
    """SAMPLE, or nothing where a small vocabulary has no tokens for it and none for the unknown either."""
    try:
        backend.encode(SAMPLE, add_special_tokens=False)
    except Exception:
        return ""
    return SAMPLE


def _name_ends(tokenizer: "PreTrainedTokenizerBase", config: "PreTrainedConfig") -> None:
    """Tell the tokenizer which special tokens begin and end a text, where only the model's config says so (gpt2's)."""
    for role in ("bos_token", "eos_token"):
        ids: Any = getattr(config, f"{role}_id", None)
        first = ids[0] if isinstance(ids, list) and ids else ids
        token = tokenizer.added_tokens_decoder.get(first) if isinstance(first, int) else None
        if getattr(tokenizer, role) is None and token is not None and token.special:
            setattr(tokenizer, role, token.content)


def _check_sample(tokenizer: "PreTrainedTokenizerBase", vocab_size: int, place: Path) -> None:
    """Refuse a tokenizer that knows no token, or writes an ordinary text in tokens that the model does not have.

    Tokens beyond the model's vocabulary that no text needs are no reason: a prompt that uses one is refused then.
    """
    if not tokenizer.get_vocab():
        raise LayerDecodingError(f"The tokenizer in {place} knows no token at all; copy its files again.")
    backend = getattr(tokenizer, "backend_tokenizer", None)  # none for a tokenizer written in Python
    sample = SAMPLE if backend is None else _writable_sample(backend)
    ids = tokenizer.encode(sample, add_special_tokens=False, verbose=False)
    # what the program asks of a tokenizer later, where a damaged setting of it would come out
    tokenizer.decode(ids)
    tokenizer.convert_ids_to_tokens(ids)
    tokenizer.convert_tokens_to_ids([tokenizer.unk_token or ""])
    if max(ids, default=0) >= vocab_size:
        raise LayerDecodingError(
            f"The tokenizer in {place} writes an ordinary text with ids up to {max(ids)}, but the model's vocabulary"
            f" ends at {vocab_size - 1}; use the tokenizer that the model was trained with."
        )


def _unreadable(error: Exception, place: Path) -> str:
    """Why a tokenizer could not be built, and what to do: a package to install, or files to copy again."""
    package = missing_package(error)
    if not (place / TOKENIZER_FILE).exists() and any(place.glob("*.model")) and find_spec("sentencepiece") is None:
        package = "sentencepiece"  # without it transformers takes the file for one of another kind
    if package is not None:
        return (
            f"The tokenizer in {place} needs the package {package}, which is not installed; run pip install {package}."
        )
    return f"The tokenizer in {place} cannot be read ({brief(error)}); copy its files from the original model again."
