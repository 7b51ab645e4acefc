"""--track: the token that a word is, or which tokens it is."""

import pytest

import goldens
from layer_decoding.cli.viewing import is_another_inside, word_id
from layer_decoding.errors import UsageError
from layer_decoding.terminal.pieces import Pieces


class LongestMatch(goldens.StoredPieces):
    """Pieces with a tokenizer that takes the longest token that fits, again and again."""

    def __init__(self, *tokens):
        super().__init__([token.encode() for token in tokens])
        self.tokenizer = self

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        ids, data = [], text.encode()
        while data:
            ids.append(max((n for n, t in enumerate(self.token_bytes) if data.startswith(t)), key=self._size))
            data = data[self._size(ids[-1]) :]
        return ids

    def _size(self, token):
        return len(self.token_bytes[token])


WORDS = LongestMatch("g", "irl", " girl", " un", "un", "ic", "orn", "the", " the", " ", "\n")


@pytest.mark.parametrize(
    "word, sentence",
    [
        (
            "girl",
            "'girl', is 2 tokens, 'g', 'irl'; with a space before it, as inside a text, it is one: --track ' girl'.",
        ),
        (" unicorn", "' unicorn', is 3 tokens, ' un', 'ic', 'orn'; track one of them."),
        ("the girl", "'the girl', is 2 tokens, 'the', ' girl'; track one of them."),
    ],
)
def test_a_word_of_several_tokens(word, sentence):
    with pytest.raises(UsageError) as refused:
        word_id(word, WORDS)
    assert str(refused.value) == f"The token to track, {sentence}"


def test_a_word_of_one_token(mini):
    bundled = Pieces(mini.tokenizer)
    for pieces, words in ((WORDS, (" girl", "the", " the", "\n")), (bundled, (" the", "\n", "<|endoftext|>"))):
        assert [pieces.of([word_id(word, pieces)]) for word in words] == [[word] for word in words]
    assert is_another_inside("the", WORDS)
    assert not is_another_inside(" the", WORDS)
    assert not is_another_inside("un girl", WORDS)
