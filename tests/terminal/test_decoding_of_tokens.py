"""Texts of tokens are what `tokenizer.decode` gives, for every kind of tokenizer."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import CTRLTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_python import PythonBackend

from conftest import random_gpt2
from layer_decoding import decode_layers
from layer_decoding.files.documents import greedy_document
from layer_decoding.models.loading import LoadedModel
from layer_decoding.models.texts import encode_text
from layer_decoding.terminal.pieces import Pieces

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
WORDS = ["▁once", "▁upon", "▁a", "▁", "▁▁", ",", "ing", "\n", "你", "▁好", "<0xZZ>", "."]
REPLACE = decoders.Replace("▁", " ")


def fast(symbols, decoder, added=(), kind=models.BPE):
    """A tokenizer of given symbols."""
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    if kind is models.BPE:
        backend = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token=symbols[0]))
    elif kind is models.WordPiece:
        backend = Tokenizer(models.WordPiece(vocabulary, unk_token=symbols[0]))
    else:
        backend = Tokenizer(models.Unigram([(symbol, -1.0) for symbol in symbols], 0))
    if decoder is not None:
        backend.decoder = decoder
    backend.add_special_tokens(["<s>", "</s>"])
    backend.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", bos_token="<s>")


def ctrl(folder):
    """A tokenizer without a Rust backend; `hel@@ lo` is one word."""
    symbols = ["<unk>", "hel@@", "lo", "world", "a@@", ",", "\n", "你", "end"]
    (folder / "vocab.json").write_text(json.dumps({symbol: number for number, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\nl o</w>\nh e\nhe l\n")
    return CTRLTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


class Rewriting(PythonBackend):
    """One that looks at the text as a whole, as Moses' rules in BioGPT's do: quotes lean on what they enclose."""

    SYMBOLS = ("<unk>", '"', "said", "fox", ".", "the")

    @property
    def vocab_size(self):
        return len(self.SYMBOLS)

    def get_vocab(self):
        return {symbol: number for number, symbol in enumerate(self.SYMBOLS)}

    def _convert_id_to_token(self, index):
        return self.SYMBOLS[index] if index < len(self.SYMBOLS) else self.unk_token

    def _convert_token_to_id(self, token):
        return self.SYMBOLS.index(token)

    def convert_tokens_to_string(self, tokens):
        return re.sub('" (.*?) "', r'"\1"', " ".join(tokens)).replace(" .", ".")


@pytest.fixture(scope="module")
def tokenizers(mini, tmp_path_factory):
    """One of every kind."""
    byte_level = sorted(dict.fromkeys("Ġabcé中", 0) | dict.fromkeys("ÃÂ©âĢĻ"))
    parts = [REPLACE, decoders.ByteFallback(), decoders.Fuse()]
    wordpiece = ["[UNK]", "hello", "world", ",", "play", "##ing", "do", "not", "你", "##s", "n't", "."]
    return {
        "bundled": mini.tokenizer,
        "byte level, words added": fast(byte_level, decoders.ByteLevel(), [" 你 ", "é", "  "]),
        "byte level in a sequence": fast(byte_level, decoders.Sequence([decoders.ByteLevel()])),
        "as Llama's": fast(WORDS + BYTES, decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)]), ["  "]),
        "as Gemma's": fast(WORDS + BYTES, decoders.Sequence(parts), ["▁▁▁▁", AddedToken("<unused>", special=True)]),
        "Metaspace": fast(WORDS, decoders.Metaspace(), kind=models.Unigram),
        "WordPiece": fast(wordpiece, decoders.WordPiece(), kind=models.WordPiece),
        "WordPiece as it is": fast(wordpiece, decoders.WordPiece(cleanup=False), kind=models.WordPiece),
        "ends of words": fast(["hel", "lo</w>", "a</w>", ".</w>"], decoders.BPEDecoder()),
        "no decoder": fast(["a", "b", "ab"], None),
        "CTRL": ctrl(tmp_path_factory.mktemp("ctrl")),
        "rewriting": Rewriting(unk_token="<unk>"),
    }


KINDS = (
    *("bundled", "byte level, words added", "byte level in a sequence", "as Llama's", "as Gemma's", "Metaspace"),
    *("WordPiece", "WordPiece as it is", "ends of words", "no decoder", "CTRL", "rewriting"),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_the_pieces_of_a_row_are_its_decoding(tokenizers, kind, data):
    """Special tokens are in the pieces and not in the text; bytes that complete no character are spelt out."""
    tokenizer = tokenizers[kind]
    row = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=9))
    pieces = Pieces(tokenizer)
    for found, skip in (("".join(pieces.of(row)), False), (pieces.text(row), True)):
        right = tokenizer.decode(row, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
        if "\ufffd" not in right:
            assert found == right
    assert len(pieces.of(row)) == len(row)
    assert [pieces.of([token])[0] for token in row if "\ufffd" not in tokenizer.decode([token])] == [
        text for token in row if "\ufffd" not in (text := tokenizer.decode([token], clean_up_tokenization_spaces=False))
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rewriting"])
@settings(max_examples=40)
@given(data=st.data())
def test_a_row_under_way_shows_the_beginning_of_what_it_will_show(tokenizers, kind, data):
    """But for the piece of the newest token, which may still be part of a word or of a character."""
    tokenizer = tokenizers[kind]
    row = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=9))
    pieces = Pieces(tokenizer)
    whole = pieces.of(row)
    for count in range(len(row)):
        so_far = [piece for piece in pieces.of(row[:count])[:-1] if "\\x" not in piece]
        assert "".join(whole).startswith("".join(so_far)) or "\\x" in "".join([*whole, *so_far])


def test_by_hand(tokenizers):
    def pieces(kind, *symbols):
        tokenizer = tokenizers[kind]
        return Pieces(tokenizer).of(tokenizer.convert_tokens_to_ids(list(symbols)))

    assert pieces("as Gemma's", "▁once", "\n", "▁▁▁▁", "ing", "</s>") == [" once", "\n", "    ", "ing", "</s>"]
    assert pieces("as Gemma's", "▁a", "<0xC3>", "<0xA9>", "<0xZZ>", "<0xE2>") == [" a", "", "é", "<0xZZ>", "\\xE2"]
    assert pieces("as Llama's", "▁once", "▁upon") == ["once", " upon"]
    assert pieces("WordPiece", "hello", "world", ",", "play", "##ing") == ["hello", " world", ",", " play", "ing"]
    assert pieces("CTRL", "hel@@", "lo", "world") == ["hel", "lo", " world"]
    assert pieces("ends of words", "hel", "lo</w>", "a</w>") == ["hel", "lo", " a"]
    assert pieces("rewriting", "the", '"', "fox", '"', ".") == ["the", ' "', "", 'fox"', "."]
    assert pieces("byte level, words added", "Ġ", " 你 ", "a") == [" ", " 你 ", "a"]


def test_bytes_of_a_broken_character_are_spelt_out_among_whole_ones(tokenizers):
    tokenizer = tokenizers["as Gemma's"]
    ids = tokenizer.convert_tokens_to_ids(["<0xE4>", "<0xBD>", "<0xA0>", "<0xE5>", "▁a", "<0xC3>", "<0xA9>"])
    assert Pieces(tokenizer).of(ids) == ["", "", "你", "\\xE5", " a", "", "é"]


def test_a_token_by_itself_keeps_the_blanks_that_begin_a_word(tokenizers):
    """Llama's decoder drops them where a text begins; then `the` and ` the` could not be told apart."""
    tokenizer = tokenizers["as Llama's"]
    pieces = Pieces(tokenizer)
    shown = {symbol: pieces.inside(tokenizer.convert_tokens_to_ids(symbol)) for symbol in WORDS}
    assert shown == {symbol: symbol.replace("▁", " ") for symbol in WORDS}
    assert Pieces(tokenizers["WordPiece"]).inside(5) == "##ing"


def test_an_id_without_a_token_is_shown_by_number_between_others(tokenizers):
    tokenizer = tokenizers["as Gemma's"]
    assert Pieces(tokenizer).of([0, len(tokenizer) + 3, 1]) == [" once", f"<{len(tokenizer) + 3}>", " upon"]


def test_special_tokens_are_all_that_are_marked_so(tokenizers):
    tokenizer = tokenizers["as Gemma's"]
    ids = tokenizer.convert_tokens_to_ids(["▁once", "<unused>", "</s>"])
    assert Pieces(tokenizer).text(ids) == tokenizer.decode(ids, skip_special_tokens=True) == " once"


@pytest.mark.parametrize("kind", ["as Gemma's", "WordPiece", "CTRL", "as Llama's"])
def test_the_document_says_what_decoding_says(tokenizers, kind):
    tokenizer = tokenizers[kind]
    model = random_gpt2(vocab_size=len(tokenizer))
    decoding = decode_layers(model, [1], 12)
    document = greedy_document(
        decoding, "p", LoadedModel(model, tokenizer, "m", "cpu", "float32", ()), Pieces(tokenizer)
    )
    for row in document["rows"]:
        right = tokenizer.decode(row["ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert "\ufffd" in right or row["text"] == right
        assert "\ufffd" in right or "".join(row["tokens"]) == tokenizer.decode(row["ids"])


def test_a_text_is_read_by_a_tokenizer_without_a_rust_backend(tokenizers):
    assert list(encode_text(tokenizers["CTRL"], "hello world")) == tokenizers["CTRL"].encode("hello world")


def test_long_rows_are_watched_in_reasonable_time(tokenizers):
    """Each step decodes a row once more, not once for each of its tokens."""
    tokenizer, calls = tokenizers["WordPiece"], 0

    class Counting(Pieces):
        def _decode(self, ids):
            nonlocal calls
            calls += 1
            return super()._decode(ids)

    pieces, row = Counting(tokenizer), random.Random(0).choices(range(len(tokenizer)), k=100)
    for count in range(1, 101):
        pieces.of(row[:count])
    assert calls < 400
