"""The pages' Python: what is said of transformers in a notebook, and that every example runs, wherever the model is."""

import copy
import re

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, GPT2LMHeadModel, GPT2Model

import make_pages

PAGE = (make_pages.GUIDE / "python.md").read_text(encoding="utf-8")
SAID = " ".join(PAGE.split())
EXAMPLES = {
    page: re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.M) for page in make_pages.PAGES
}
FIRST, *CELLS = EXAMPLES[make_pages.GUIDE / "python.md"]
SHORT, LONG = "Once upon a time", "A long long time ago,"


def test_no_example_stands_elsewhere_but_the_first_one_in_the_readme():
    assert {page.name: found for page, found in EXAMPLES.items() if found} == {
        "README.md": [FIRST],
        "python.md": [FIRST, *CELLS],
    }
    assert len(FIRST.strip().splitlines()) <= 6


def test_the_first_example_runs(capsys):
    exec(compile(FIRST, "README.md", "exec"), {})
    assert len(re.findall(r"^\d+ ", capsys.readouterr().out, re.MULTILINE)) == 12


def test_cells_print_what_is_beside_them(capsys):
    """One after the other, as in a notebook; what a line prints stands after it, as a comment."""
    cells = "".join(CELLS)
    said = re.findall(r"^print\(.*\)  # (.+)$", cells, re.MULTILINE)
    exec(compile(cells, "python.md", "exec"), {})
    assert len(said) == 6
    assert capsys.readouterr().out.splitlines() == said


def test_a_cell_sends_what_it_reads_to_where_the_model_is():
    """On a machine with a GPU `load_model` puts the model there."""
    encoded = re.findall(r"return_tensors=.*", "".join(CELLS))
    assert len(encoded) == 2
    assert all(line.endswith(".to(model.device)") for line in encoded)


@pytest.fixture
def tokenizer(mini):
    """The bundled model's, padding with end-of-text on the left."""
    tokenizer = copy.deepcopy(mini.tokenizer)
    assert tokenizer.pad_token is None
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "left"
    return tokenizer


def encode(tokenizer, *texts):
    return tokenizer(list(texts), return_tensors="pt", padding=True)


def written(mini, batch):
    """The greedy continuations of a batch, end-of-text left out."""
    ids = mini.model.generate(**batch, do_sample=False, max_new_tokens=6)
    return mini.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_padded_on_the_left_and_masked_a_text_goes_on_as_alone(mini, tokenizer):
    alone = [*written(mini, encode(tokenizer, SHORT)), *written(mini, encode(tokenizer, LONG))]
    assert written(mini, encode(tokenizer, SHORT, LONG)) == alone
    assert alone[0] in SAID


@pytest.mark.parametrize("mistake", ["right", "unmasked"])
def test_padded_otherwise_it_goes_on_wrongly(mini, tokenizer, mistake):
    if mistake == "right":
        tokenizer.padding_side = "right"
    batch = encode(tokenizer, SHORT, LONG)
    if mistake == "unmasked":
        batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
    short, long = written(mini, batch)
    assert short != written(mini, encode(tokenizer, SHORT))[0]
    assert long == written(mini, encode(tokenizer, LONG))[0]  # which has no padding
    shown = short.replace("\n", "↵")
    assert f"`{shown}`" in SAID


def test_a_plain_call_needs_positions_as_well(mini, tokenizer):
    batch = encode(tokenizer, SHORT, LONG)
    alone = mini.model(**encode(tokenizer, SHORT)).logits[0, -1]
    positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    assert (mini.model(**batch, position_ids=positions).logits[0, -1] - alone).abs().max() <= 1e-4
    assert (mini.model(**batch).logits[0, -1] - alone).abs().max() > 1


def test_the_bare_model_and_its_head(mini, prompt_ids):
    config = copy.deepcopy(mini.model.config)
    with torch.device("meta"):
        assert type(AutoModel.from_config(config)) is type(mini.model.transformer) is GPT2Model
        assert type(AutoModelForCausalLM.from_config(config)) is type(mini.model) is GPT2LMHeadModel
    ids = torch.tensor([prompt_ids])
    hidden, logits = mini.model.transformer(ids).last_hidden_state, mini.model(ids).logits
    assert hidden.shape == (1, len(prompt_ids), config.n_embd)
    assert logits.shape == (1, len(prompt_ids), config.vocab_size)
    assert (hidden @ mini.model.transformer.wte.weight.T - logits).abs().max() <= 1e-4  # ln_f is behind it


def test_where_the_first_generated_token_stands(mini, prompt_ids):
    """Sliced as the page has it, the log-probabilities are the decoding's own; one place later the first is lost."""
    from layer_decoding import decode_layers

    ours = decode_layers(mini.model, prompt_ids, 20).final_row
    ids = torch.tensor([[*prompt_ids, *ours.ids]])
    logprobs = mini.model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    assert logprobs[len(prompt_ids) - 1 :].tolist() == pytest.approx(ours.logprob_nats, abs=1e-4)
    assert logprobs[len(prompt_ids) :].tolist() == pytest.approx(ours.logprob_nats[1:], abs=1e-4)
