"""Every family of decoders against plain transformers: what the project says of each is exact, or it says nothing."""

import shutil
from dataclasses import replace

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import family_checks
import make_families
import make_pages
import reference
from families import FAMILIES
from family_checks import CHECKS, COLUMNS, FEWER, NEW, PROMPT, Subject, outcome
from layer_decoding import LayerDecodingError, decode_layers, load_model
from layer_decoding.models.locating import BUNDLED_FOLDER
from refusals import assert_sentence, refusal

CLOSEST = 5e-4  # two tokens nearer to each other than this could change places by rounding alone


def params(attentions=False):
    """A parameter set a family, and an attention implementation where wanted; slow unless the family is quick."""
    sets = []
    for family in FAMILIES:
        marks = [] if family.quick else [pytest.mark.slow]
        for attention in family.attentions if attentions else [None]:
            name = f"{family.name}-{attention}" if attentions else family.name
            sets.append(pytest.param(*([family, attention] if attentions else [family]), marks=marks, id=name))
    return sets


@pytest.fixture(scope="module")
def subjects():
    """A subject for each family and attention implementation, made once."""
    made = {}

    def subject(family, attention=None):
        key = family.name, attention
        if key not in made:
            made[key] = Subject(family.build(attention), family.blocks)
        return made[key]

    return subject


# ---------------------------------------------------------------- the reference by itself


def block_outputs(subject, layer):
    """What each block of a cut model gives for the prompt, and the logits: ([hidden] * layer, [S, V])."""
    model, outputs = subject.cut(layer), []

    def keep(_module, _args, output):
        outputs.append(output if isinstance(output, torch.Tensor) else output[0])

    handles = [block.register_forward_hook(keep) for block in model.get_submodule(subject.blocks)]
    logits = reference.text_logits(model, PROMPT)
    for handle in handles:
        handle.remove()
    return outputs, logits


@pytest.mark.parametrize("family", params())
def test_a_cut_model_is_the_beginning_of_the_whole_one(family, subjects):
    subject = subjects(family)
    whole, logits = block_outputs(subject, subject.layer_count)
    assert torch.equal(logits, reference.text_logits(subject.model, PROMPT))
    for layer in subject.layers:
        outputs, _ = block_outputs(subject, layer)
        assert len(outputs) == layer == subject.cut(layer).config.num_hidden_layers
        for ours, theirs in zip(outputs, whole, strict=False):
            assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", params())
def test_the_reference_agrees_with_itself_and_its_layers_do_not(family, subjects):
    """With a cache and without, token by token and in one pass; no two tokens near enough to change places."""
    subject, texts = subjects(family), []
    for layer in subject.layers:
        model = subject.cut(layer)
        text = reference.plain_greedy(model, PROMPT, NEW)
        assert subject.greedy(layer, NEW) == text
        logits = subject.predictions(layer, [*PROMPT, *text], len(PROMPT))
        assert logits.argmax(-1).tolist() == text
        first, second = logits.topk(2).values.unbind(-1)
        assert (first - second).min() > CLOSEST
        texts.append(tuple(text))
    assert len(set(texts)) >= subject.layer_count - 1


@pytest.mark.parametrize("family", [p for p in params() if "beam" not in p.values[0].refused])
def test_the_librarys_beams_are_scored_by_what_they_read(family, subjects):
    subject = subjects(family)
    for layer in (subject.lower, subject.layer_count):
        model = subject.cut(layer)
        for ids, score in reference.library_search(model, PROMPT, FEWER, num_beams=3, num_return_sequences=3):
            logprobs = reference.text_logprobs(model, PROMPT, ids)
            assert score == pytest.approx(sum(logprobs) / len(ids), abs=1e-4)


# ---------------------------------------------------------------- the project


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("family, attention", params(attentions=True))
def test_exact_or_refused(family, attention, check, subjects):
    expected = "refused" if check in family.refused else "exact"
    assert outcome(CHECKS[check], subjects(family, attention)) == expected


def test_the_table_names_checks_that_there_are():
    assert {check for family in FAMILIES for check in family.refused} <= set(CHECKS)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_the_support_table_is_what_the_checks_find(monkeypatch):
    named = [replace(FAMILIES[0], name=name) for name in ("right", "unsure", "broken")]
    monkeypatch.setattr(make_families, "FAMILIES", named)
    monkeypatch.setattr(make_families, "COLUMNS", {"shared": family_checks.shared, "own": family_checks.own})
    results = iter(["exact"] * 2 + ["refused"] * 2 + [AssertionError("layer 1")] * 2)

    def found(_check, _subject):
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(make_families, "outcome", found)
    assert make_families.support_table().splitlines() == [
        "| family | shared | own |",
        "|---|---|---|",
        "| right | exact | exact |",
        "| unsure | refused | refused |",
        "| broken | WRONG | WRONG |",
    ]


def test_the_pages_table_is_of_these_families():
    """Every cell is proven by test_exact_or_refused; here only that the page was made after the last change."""
    rows = [[f.name, *("refused" if column in f.refused else "exact" for column in COLUMNS)] for f in FAMILIES]
    page = (make_pages.GUIDE / "models.md").read_text(encoding="utf-8")
    (block,) = make_pages.MADE.finditer(page)
    _, _, *lines = block["text"].splitlines()
    assert [line.strip("| ").split(" | ") for line in lines] == rows


def test_the_table_is_pasted_between_its_marks(monkeypatch):
    monkeypatch.setattr(make_pages, "families_table", lambda: "| new |\n")
    page = "a\n<!-- families -->\n| old |\n<!-- /families -->\nb\n"
    assert make_pages.remade(page) == page.replace("old", "new")


# ---------------------------------------------------------------- from a folder


def save(model, folder):
    """A model as a folder, with the bundled model's tokenizer."""
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_FOLDER / name, folder)
    return str(folder)


SIZES = {
    "vocab_size": 8192,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
ENCODER_DECODER = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 8192}
NO_DECODERS = {
    "bert": lambda: BertLMHeadModel(BertConfig(**SIZES)),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(**ENCODER_DECODER, encoder_attention_heads=2, decoder_attention_heads=2)
    ),
    "t5": lambda: T5ForConditionalGeneration(T5Config(vocab_size=8192, d_model=16, d_kv=8, num_layers=1, num_heads=2)),
    "mamba": lambda: MambaForCausalLM(MambaConfig(vocab_size=8192, hidden_size=16, num_hidden_layers=2)),
    "rwkv": lambda: RwkvForCausalLM(RwkvConfig(vocab_size=8192, hidden_size=16, num_hidden_layers=2)),
}


@pytest.mark.parametrize("model_type", NO_DECODERS)
def test_what_is_no_stack_of_causal_attention_blocks_is_refused_at_loading(model_type, tmp_path):
    assert_sentence(refusal(save(NO_DECODERS[model_type](), tmp_path)), model_type)


@pytest.mark.parametrize("family", params())
def test_a_family_is_decoded_from_its_folder(family, tmp_path):
    """Saved, loaded as the scripts do it, and decoded as the model in memory is."""
    model = family.with_vocabulary(8192)
    loaded = load_model(save(model, tmp_path), device="cpu", dtype="float32")
    assert loaded.model.config.model_type == family.model_type
    text = reference.plain_greedy(model, PROMPT, 3)
    assert reference.plain_greedy(loaded.model, PROMPT, 3) == text
    if "shared" in family.refused:
        with pytest.raises(LayerDecodingError):
            decode_layers(loaded.model, PROMPT, 3)
    else:
        assert list(decode_layers(loaded.model, PROMPT, 3).final_row.ids) == text
