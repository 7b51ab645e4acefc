"""What a refusal looks like, from Python and from a script: one sentence that says what is wrong and what to do."""

import re

import pytest

from layer_decoding.errors import LayerDecodingError
from layer_decoding.models.loading import load_model


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


def assert_refused(result, code, *words):
    """In a script's (exit code, stdout, stderr): one sentence at the end of stderr, nothing on stdout, no traceback."""
    got, out, err = result
    *notices, sentence = err.splitlines()
    assert got == code, err
    assert out == "", out
    assert re.fullmatch(r"error: \S.*\.", sentence), sentence
    assert not any("error" in notice or "Traceback" in notice or "Warning" in notice for notice in notices), err
    for word in words:
        assert word in sentence, sentence
