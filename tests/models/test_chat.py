"""Prompts in a chat template: what the model reads is what the template writes, no special token twice."""

import json

import pytest
from tokenizers import processors

import multi_layer_beam_search_decoding_demo as beam_demo
import multi_layer_decoding_demo as demo
import multi_layer_sampling_decoding_demo as sampling_demo
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.models.loading import LoadedModel, load_model
from layer_decoding.models.prompts import encode_chat, encode_prompt

END = "<|endoftext|>"
TEMPLATE = (
    "{{ '<|endoftext|>' }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@pytest.fixture
def chatty() -> LoadedModel:
    """The bundled model with a chat template that begins with a token which its tokenizer puts before any text too."""
    loaded = load_model("mini", device="cpu")
    loaded.tokenizer.chat_template = TEMPLATE
    loaded.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, 0)]
    )
    return loaded


@pytest.fixture
def scripts(chatty, monkeypatch):
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: chatty)
    return chatty


def test_the_template_frames_the_question_once(chatty):
    text, ids = encode_chat(chatty.tokenizer, "Who is there?")
    assert text == f"{END}user: Who is there?\nassistant:"
    assert chatty.tokenizer.decode(ids) == text
    assert ids.count(0) == 1  # the tokenizer alone would have put a second one before it
    assert encode_prompt(chatty.tokenizer, text).count(0) == 2


def test_every_script_continues_the_templated_text(scripts, capsys):
    _, ids = encode_chat(scripts.tokenizer, "Hi")
    for script in (demo, beam_demo, sampling_demo):
        assert script.main(["Hi", "--chat", "--json", "--max-new-tokens", "2"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["prompt"] == {"text": f"{END}user: Hi\nassistant:", "ids": ids}


@pytest.mark.usefixtures("scripts")
def test_the_reader_sees_what_the_model_reads(capsys):
    assert demo.main(["Hi", "--chat", "--max-new-tokens", "2", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"Prompt: {END}user: Hi↵assistant:\n")


def test_a_tokenizer_without_a_template(mini, capsys, monkeypatch):
    with pytest.raises(UsageError, match="no chat template; give the question as a plain text"):
        encode_chat(mini.tokenizer, "Hi")
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: mini)
    assert demo.main(["Hi", "--chat"]) == 2
    assert "error: The model's tokenizer has no chat template" in capsys.readouterr().err


@pytest.mark.parametrize("template", ["{{ raise_exception('no users here') }}", "{% for %}", "{{ ''.__class__.x.y }}"])
def test_a_template_that_fails(chatty, template):
    chatty.tokenizer.chat_template = template
    with pytest.raises(
        LayerDecodingError, match=r"chat template of the model's tokenizer fails \(.*\); give the question as"
    ):
        encode_chat(chatty.tokenizer, "Hi")
