"""The ids of a text are those that tokenizer.json gives it, whatever class the folder names, and checked."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, CTRLTokenizer, LlamaConfig, LlamaForCausalLM

import multi_layer_decoding_demo as demo
from layer_decoding import decode_layers, load_model
from layer_decoding.errors import UsageError
from layer_decoding.models.prompts import encode_prompt
from layer_decoding.models.texts import encode_text
from model_folders import END, byte_tokenizer, edit_json
from refusals import assert_refused, assert_sentence, refusal

TEXTS = [
    "List:\n  1.",
    "It's 2024,\tI'LL say\r\n\r\nna\u00efve nai\u0308ve",
    "  x = 3.14 + y_10 ",
    "\u6771\u4eac 🙂",
    "",
]
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("Ġ", "Ġ"), ("Ġ", "1"), ("1", "."), ("2", "0"), ("Ċ", "Ġ"), ("I", "t"), ("'", "s"), ("n", "a"), ("A", "l")]


def byte_pairs() -> Tokenizer:
    """Bytes and a few merges that reach across most boundaries that a splitting can draw."""
    tokens = [*ALPHABET, *("".join(pair) for pair in MERGES)]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END])
    return backend


def digits_first(backend):
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def space_before(backend):
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def lowercase(backend):
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def not_split(backend):
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def limited(backend):
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.enable_truncation(3)
    backend.enable_padding(length=12)


def whole_words(backend):
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_tokens([AddedToken("say", single_word=True), AddedToken(" 1", normalized=False)])


@pytest.fixture
def llama(tmp_path):
    """A tiny Llama in a folder, for 280 tokens, without a tokenizer."""
    sizes = {"vocab_size": 280, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(**sizes, intermediate_size=32, max_position_embeddings=64)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "LlamaTokenizer", "Qwen2Tokenizer", "BertTokenizer", "NoSuchClass"])
@pytest.mark.parametrize("change", [digits_first, space_before, lowercase, not_split, limited, whole_words])
def test_what_tokenizer_json_says_holds_whatever_the_class(change, name, llama):
    backend = byte_pairs()
    change(backend)
    backend.save(str(llama / "tokenizer.json"))
    settings = {"tokenizer_class": name, "eos_token": END, "add_prefix_space": False, "do_lower_case": False}
    (llama / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_model(str(llama)).tokenizer
    backend.no_truncation()
    backend.no_padding()
    for text in TEXTS:
        assert encode_prompt(tokenizer, text) == backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.eos_token == END


def test_a_class_that_changes_the_ids_is_noticed(llama, monkeypatch):
    """What transformers' own choice of class makes of the file is refused, not run."""
    backend = byte_pairs()
    digits_first(backend)
    backend.save(str(llama / "tokenizer.json"))
    edit_json_new(llama / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast", AutoTokenizer)
    assert_sentence(refusal(str(llama)), str(llama), "other tokens", "tokenizer.json")


def edit_json_new(file, **settings):
    file.write_text(json.dumps(settings))


def test_tokens_beyond_the_embeddings_are_refused_where_a_prompt_uses_one(tiny_copy, capsys):
    byte_tokenizer(END, *(f"<{i}>" for i in range(5))).save_pretrained(tiny_copy)  # 262 tokens against 260
    loaded = load_model(str(tiny_copy))
    assert encode_prompt(loaded.tokenizer, "a<0>") == [*encode_prompt(loaded.tokenizer, "a"), 257]
    beyond = encode_prompt(loaded.tokenizer, "a<4>")
    assert beyond[-1] == 261
    with pytest.raises(UsageError, match="Token id 261 is not in the model's vocabulary of 260 tokens"):
        decode_layers(loaded.model, beyond, 2)
    assert demo.main(["a<0>", "--model", str(tiny_copy), "--max-new-tokens", "2", "--quiet"]) == 0
    capsys.readouterr()
    code = demo.main(["a<4>", "--model", str(tiny_copy), "--max-new-tokens", "2"])
    assert_refused((code, *capsys.readouterr()), 2, "261", "260")


def test_a_vocabulary_that_cannot_write_every_text(tiny_copy):
    """Neither letters for the sample nor a token for the unknown: no reason to refuse it, nor to trust it less."""
    backend = Tokenizer(models.WordLevel({"once": 0, "upon": 1}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tiny_copy / "tokenizer.json"))
    tokenizer = load_model(str(tiny_copy)).tokenizer
    assert encode_prompt(tokenizer, "upon once") == [1, 0]
    with pytest.raises(UsageError, match="cannot be written in the model's tokens"):
        encode_prompt(tokenizer, "upon a time")


def test_a_tokenizer_written_in_python(tiny_copy):
    """CTRL's has no Rust behind it: its ids are its own."""
    (tiny_copy / "tokenizer.json").unlink()
    vocab = {token: i for i, token in enumerate(["<unk>", "a", "b", "a@@", "ab"])}
    edit_json_new(tiny_copy / "vocab.json", **vocab)
    (tiny_copy / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    edit_json(tiny_copy / "tokenizer_config.json", tokenizer_class="CTRLTokenizer")
    loaded = load_model(str(tiny_copy))
    assert isinstance(loaded.tokenizer, CTRLTokenizer)
    text = "a b ab c"
    assert encode_prompt(loaded.tokenizer, text) == [1, 2, 4, 0]
    assert list(encode_text(loaded.tokenizer, [text * 50])) == loaded.tokenizer.encode(text * 50)
