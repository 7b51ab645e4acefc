"""How a text is cut into words before its letters are merged, by the name that a GGUF file gives to it.

A file holds the vocabulary and the merges, but not the rule: it names the one that llama.cpp has for it, as a list of
patterns of which each cuts what the ones before it left whole. transformers knows some of the names and takes GPT-2's
rule for every other, so that the model reads tokens that it never saw. A name that is known to neither is refused.
"""

from typing import Any

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_DIGITS = (r"\p{N}", GPT2)
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")
_BLOOM = (r" ?[^(\s|.,!?…。，、।۔،)]+",)
_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_AS_GPT2 = (
    "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4 modern-bert roberta-bpe"
    " jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code"
)
_DIGITS_FIRST = "starcoder refact command-r smollm codeshell exaone minerva-7b mellum2"
PATTERNS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_AS_GPT2.split(), (GPT2,)),
    **dict.fromkeys(_DIGITS_FIRST.split(), _DIGITS),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), _BLOOM),
    "viking": (*_BLOOM, r"\p{N}"),
    "falcon": _FALCON,
    "deepseek-coder": _CODER,
    "default": _DEFAULT,
}
# Rules that transformers has under another name, where llama.cpp has one name more.
_ALSO_CALLED = {
    **dict.fromkeys(("stablelm2", "hunyuan", "solar-open", "grok-2"), "qwen2"),
    **dict.fromkeys(("glm4", "chatglm-bpe"), "llama-bpe"),
}
# A word that is a token by itself is that token, whatever the merges say; and a text begins with the token for that.
_WHOLE_WORDS = "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano tekken"


def patterns(name: str) -> tuple[str, ...] | None:
    """The patterns of the rule called `name`, one after the other; None for a name that nobody here knows."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if name in PATTERNS:
        return PATTERNS[name]
    known = GGUF_PRE_TOKENIZER_SPLITS.get(_ALSO_CALLED.get(name, name))
    return None if known is None else (known,)


def keeps_whole_words(name: str) -> bool:
    """Whether the rule called `name` looks a word up before it merges, and puts a token before every text."""
    return name in _WHOLE_WORDS.split()


def pre_tokenizer(patterns: tuple[str, ...]) -> Any:
    """The rule as `tokenizers` has it: every pattern cuts, what it does not match stays whole; bytes last."""
    from tokenizers import Regex, pre_tokenizers

    cuts: list[Any] = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns]
    return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
