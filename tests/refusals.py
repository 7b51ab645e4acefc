"""What a refusal looks like: one sentence that says what is wrong and what to do."""

import re

import pytest

from layer_decoding.errors import LayerDecodingError
from layer_decoding.loading import load_model


def assert_sentence(message: str, *words: str) -> None:
    """One sentence, and each of `words` in it."""
    assert "\n" not in message, message
    assert message.endswith("."), message
    assert not re.search(r"\. [A-Z]", message), message
    for word in words:
        assert word in message, message


def refusal(*args, **kwargs) -> str:
    """The sentence with which load_model refuses; exit code 1."""
    with pytest.raises(LayerDecodingError) as caught:
        load_model(*args, **kwargs)
    assert caught.value.exit_code == 1
    assert_sentence(str(caught.value))
    return str(caught.value)
