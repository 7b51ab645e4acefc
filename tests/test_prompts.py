"""A prompt in tokens: what a tokenizer puts around a text, and the special token that a text can hold."""

import pytest

from layer_decoding.prompts import encode_prompt
from model_folders import END, byte_tokenizer


@pytest.mark.parametrize(
    "template, before",
    [(None, []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"]), ("<s> <s> $A </s>", ["<s>", "<s>"])],
)
@pytest.mark.parametrize("text", ["Hi", "", "a</s>", "</s>", "é", f"x{END}y"])
def test_tokens_added_after_the_prompt_are_left_out(template, before, text):
    tokenizer = byte_tokenizer("<s>", "</s>", END, template=template)
    assert encode_prompt(tokenizer, text) == [
        *tokenizer.convert_tokens_to_ids(before),
        *tokenizer.encode(text, add_special_tokens=False),
    ]


def test_end_of_text_in_a_prompt_is_the_special_token(mini):
    assert encode_prompt(mini.tokenizer, END) == [0]
    assert encode_prompt(mini.tokenizer, f"a{END}b")[1] == 0
