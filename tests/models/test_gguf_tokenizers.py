"""A GGUF file names the rule by which a text is split: it is followed, checked against the tokenizer.json of models
that have it, or the file is refused."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Sequence, Split
from transformers import LlamaTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from gguf_files import gpt2_file, tokenizer_file
from layer_decoding.errors import LayerDecodingError
from layer_decoding.models.gguf import tokenizer as gguf_tokenizer
from layer_decoding.models.gguf.splitting import PATTERNS
from layer_decoding.models.gguf.tokenizer import build_tokenizer
from refusals import refusal

PAIRS = [("Ġ", "Ġ"), ("Ġ", "1"), ("1", "."), ("2", "0"), ("20", "2"), ("202", "4"), ("Ċ", "Ġ"), ("'", "s"), ("!", "!")]
PAIRS += [(".", "."), ("Ġ", "("), ("Ġ", "a"), ("a", "b"), ("Ċ", "Ċ"), ("(", "a")]
TOKENS = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in PAIRS), "upon"]
TEXTS = [
    "List:\n  1. Item (a) 12.",
    "It's 2024!! 123456,  ab  \n\n  (a)...\r\n",
    "naïve 東京！ 🙂 x=3.14 $5 a|b `c` ~ ^",
    "  1\t 20 241",
    " ½ ² ५ …。 upon",
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern):
    return Split(Regex(pattern), "isolated")


def byte_level(use_regex=False):
    return ByteLevel(add_prefix_space=False, use_regex=use_regex)


# How the tokenizer.json of a model with that rule writes it.
AS_IN_TOKENIZER_JSON = {
    "gpt-2": byte_level(True),
    "olmo": byte_level(True),
    "smollm": Sequence([Digits(individual_digits=True), byte_level(True)]),
    "starcoder": Sequence([Digits(individual_digits=True), byte_level(True)]),
    "falcon": Sequence(
        [Punctuation("contiguous"), byte_level(True), Digits(individual_digits=False), split("[0-9][0-9][0-9]")]
    ),
    "bloom": Sequence([split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), byte_level()]),
    "deepseek-coder": Sequence(
        [
            split("[\r\n]"),
            split("\\s?\\p{L}+"),
            split("\\s?\\p{P}+"),
            split("[一-龥ࠀ-一가-퟿]+"),
            Digits(individual_digits=True),
            byte_level(),
        ]
    ),
    "qwen2": Sequence([split(PRETOKENIZE_REGEX), byte_level()]),
    "stablelm2": Sequence([split(PRETOKENIZE_REGEX), byte_level()]),
    "glm4": Sequence([split(LLAMA3), byte_level()]),
    "llama-bpe": Sequence([split(LLAMA3), byte_level()]),
}


@pytest.mark.parametrize("name", AS_IN_TOKENIZER_JSON)
def test_the_rule_that_a_file_names_is_followed(name, tmp_path):
    tokenizer_file(tmp_path / "t.gguf", TOKENS, PAIRS, name)
    tokenizer = build_tokenizer(tmp_path / "t.gguf")
    whole_words = name == "llama-bpe"
    vocab = {token: i for i, token in enumerate(TOKENS)}
    plain = Tokenizer(models.BPE(vocab=vocab, merges=PAIRS, ignore_merges=whole_words))
    plain.pre_tokenizer = AS_IN_TOKENIZER_JSON[name]
    plain.decoder = decoders.ByteLevel()
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False) == plain.encode(text).ids, text


def test_the_rules_differ_on_the_texts_they_are_told_apart_by():
    """Or the test above could not fail: GPT-2's rule, which transformers takes for those it does not know."""
    plain = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(TOKENS)}, merges=PAIRS))
    ids = {}
    for name in ("gpt-2", "smollm", "falcon", "bloom", "deepseek-coder", "qwen2", "glm4"):
        plain.pre_tokenizer = AS_IN_TOKENIZER_JSON[name]
        ids[name] = tuple(tuple(plain.encode(text).ids) for text in TEXTS)
    assert len(set(ids.values())) == len(ids)


def test_llama3_puts_a_token_before_a_text_unless_its_file_says_otherwise(tmp_path):
    start = TOKENS.index("x")
    for settings, before in (({}, [start]), ({"add_bos_token": False}, [])):
        file = tmp_path / f"{len(before)}.gguf"
        tokenizer_file(file, TOKENS, PAIRS, "llama-bpe", bos_token_id=start, **settings)
        assert build_tokenizer(file).encode("upon") == [*before, TOKENS.index("upon")]


@pytest.mark.parametrize("space", [True, False, None])
def test_the_space_before_a_text_is_the_files(space, tmp_path):
    """In SentencePiece's way of merging, as Llama 2 has it."""
    tokens, merges = ["<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"], [("\u2581", "a")]
    settings = {} if space is None else {"add_space_prefix": space}
    tokenizer_file(tmp_path / "t.gguf", tokens, merges, model="llama", **settings)
    tokenizer = build_tokenizer(tmp_path / "t.gguf")
    vocab = {token: i for i, token in enumerate(tokens)}
    plain = LlamaTokenizer(vocab=vocab, merges=merges, add_prefix_space=space is not False)
    for text in ("a a", " a", "aa"):
        ids = plain.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text, add_special_tokens=False) == ids
        assert tokenizer.decode(ids) == plain.decode(ids)


def test_a_rule_that_nobody_knows_is_refused_by_name(tmp_path):
    gpt2_file(tmp_path / "new.gguf", pre="nobody-knows")
    message = refusal(str(tmp_path / "new.gguf"))
    assert "'nobody-knows'" in message
    assert "tokenizer.json" in message


def test_what_lies_beside_a_file_is_not_its_tokenizer(tmp_path):
    Tokenizer(models.WordLevel({"once": 0})).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer_file(tmp_path / "t.gguf", TOKENS, PAIRS, "gpt-2")
    assert build_tokenizer(tmp_path / "t.gguf").encode(" a") == [TOKENS.index("Ġa")]


def test_a_tokenizer_that_does_not_give_a_text_back_is_refused(tmp_path, monkeypatch):
    tokenizer_file(tmp_path / "t.gguf", TOKENS, PAIRS, "gpt-2")
    monkeypatch.setattr(gguf_tokenizer, "pre_tokenizer", lambda _: ByteLevel(add_prefix_space=True, use_regex=False))
    with pytest.raises(LayerDecodingError, match="does not give a text back"):
        build_tokenizer(tmp_path / "t.gguf")


def test_every_rule_here_is_one_that_can_be_built():
    for patterns in set(PATTERNS.values()):
        assert gguf_tokenizer.pre_tokenizer(patterns).pre_tokenize_str("It's 2024!")
