"""What each part adds to a logit, and the half steps inside blocks, against GPT-2 written out in float64."""

from dataclasses import replace

import pytest
import torch

import gpt2_by_hand
import model_folders
from conftest import random_gpt2
from layer_decoding import HalfStep, UsageError, decode_layers, explain, explain_text, load_model
from layer_decoding.decoding import why as why_module
from layer_decoding.errors import LayerDecodingError
from layer_decoding.lens.blocks import find_blocks
from layer_decoding.lens.inside.added import Added, added_in_blocks
from layer_decoding.lens.inside.parts import find_parts
from refusals import assert_sentence

PROMPT = [5, 17, 42, 8]
STEP = 3


def by_hand(model, why):
    """{(part, layer, head): logit} of an explanation, from the weights."""
    ids = [*why.prompt_ids, *why.written_ids]
    return gpt2_by_hand.logits_of(model, gpt2_by_hand.parts(model, ids), why.token, why.against)


@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_every_part_against_the_weights(dtype, close):
    model = random_gpt2(3).to(dtype)
    for name, parameter in model.named_parameters():
        if name.endswith("c_proj.bias"):  # transformers begins with zeros
            parameter.normal_(0, 0.3)
    decoding = decode_layers(model, PROMPT, STEP, measures=False)
    why = explain(model, decoding, STEP, heads=2)
    expected = by_hand(model, why)
    for part in why.parts:
        name = part.part if part.layer is None else (part.part, part.layer)
        if part.layer == 2 and part.part == "attention":
            heads = expected["heads", 2]
            value = expected[name] - heads.sum() if part.head is None else heads[part.head - 1]
        else:
            value = expected[name]
        assert part.logit == pytest.approx(float(value), abs=close), part
    assert len(why.parts) == 1 + 2 * 4 + 4 + 1
    assert abs(why.missing) < close


def test_the_parts_are_those_of_transformer_lens(tmp_path):
    """Its direct logit attribution; where the package is installed, which this project does not ask for."""
    bridges = pytest.importorskip("transformer_lens.model_bridge")
    model_folders.save_tiny(tmp_path / "model")
    model = load_model(f"{tmp_path / 'model'}/", device="cpu").model
    decoding = decode_layers(model, PROMPT, STEP, measures=False)
    why = explain(model, decoding, STEP)
    bridge = bridges.TransformerBridge.boot_transformers(str(tmp_path / "model"), device="cpu")
    bridge.enable_compatibility_mode(center_writing_weights=False, center_unembed=False, fold_value_biases=False)
    with torch.inference_mode():
        _, cache = bridge.run_with_cache(torch.tensor([[*why.prompt_ids, *why.written_ids]]))
        states = cache.decompose_resid(pos_slice=-1)
        theirs = cache.logit_attrs(states, tokens=why.token, incorrect_tokens=why.against, pos_slice=-1)[:, 0].tolist()
    tokens, places, *blocks = theirs
    ours = [part.logit for part in why.parts if part.layer is not None]
    assert why.parts[0].logit == pytest.approx(tokens + places, abs=1e-4)
    assert ours == pytest.approx(blocks, abs=1e-4)


def test_it_is_the_chosen_token_less_the_runner_up(tiny):
    decoding = decode_layers(tiny, PROMPT, STEP)
    first, second = decoding.final_row.candidates[STEP - 1][:2]
    why = explain(tiny, decoding, STEP)
    assert (why.token, why.against) == (first.id, second.id)
    assert why.written_ids == decoding.text_ids[: STEP - 1]
    assert explain(tiny, decoding, STEP, against=7).against == 7


def test_what_there_is_not_is_refused(tiny):
    decoding = decode_layers(tiny, PROMPT, 2)
    for wrong in ({"step": 3}, {"heads": 5}, {"against": 97}, {"against": decoding.text_ids[0]}):
        with pytest.raises(UsageError) as error:
            explain(tiny, decoding, **wrong)
        assert_sentence(str(error.value))


def test_numbers_too_coarse_to_add_up_are_refused():
    model = random_gpt2(3).to(torch.bfloat16)
    decoding = decode_layers(model, PROMPT, 1, measures=False)
    with pytest.raises(LayerDecodingError) as error:
        explain(model, decoding)
    assert_sentence(str(error.value), "float32")


# ---------------------------------------------------------------- half steps


def test_half_steps_are_the_states_between_attention_and_mlp():
    model = random_gpt2(5).double()
    layers = [HalfStep(2), 2, HalfStep(4)]
    decoding = decode_layers(model, PROMPT, 1, layers=layers, candidates=97)
    found = gpt2_by_hand.parts(model, PROMPT)
    state = found["embeddings"] + found["attention", 1] + found["mlp", 1] + found["attention", 2]
    logits = model.lm_head(model.transformer.ln_f(state))
    expected = logits.softmax(-1)
    for candidate in decoding.rows[0].candidates[0]:
        assert candidate.probability == pytest.approx(float(expected[candidate.id]), abs=1e-6)
    assert [str(row.layer) for row in decoding.rows] == ["2a", "2", "4a", "4"]


def test_a_token_settles_at_a_half_step_where_that_is_shown(tiny):
    layers = [layer for block in range(1, 5) for layer in (HalfStep(block), block)]
    decoding = decode_layers(tiny, PROMPT, 12, layers=layers)
    assert any(isinstance(layer, HalfStep) for layer in decoding.settles_at)
    for step, settled in enumerate(decoding.settles_at):
        column, place = [row.ids[step] for row in decoding.rows], layers.index(settled)
        assert all(token == column[-1] for token in column[place:])
        assert place == 0 or column[place - 1] != column[-1]
    plain = decode_layers(tiny, PROMPT, 12)
    for row in plain.rows:
        assert row.ids == next(other.ids for other in decoding.rows if other.layer == row.layer)


def test_own_context_cannot_be_cut_inside_a_block(tiny):
    with pytest.raises(UsageError) as error:
        decode_layers(tiny, PROMPT, 2, context="own", layers=[HalfStep(2)])
    assert_sentence(str(error.value), "2a")


def test_a_block_that_adds_something_else_is_refused(tiny):
    """Whatever was found at the beginning, each pass is held to it."""
    blocks = find_blocks(tiny)
    parts = find_parts(blocks)
    hook = blocks.modules[1].register_forward_hook(lambda _module, _args, output: output * 1.01)
    with torch.inference_mode(), added_in_blocks(blocks, parts) as added, pytest.raises(LayerDecodingError) as error:
        tiny(input_ids=torch.tensor([PROMPT]))
    hook.remove()
    assert_sentence(str(error.value), "Block 2")
    assert all(isinstance(block, Added) for block in added.values())


# ---------------------------------------------------------------- every step at once


@pytest.mark.parametrize("heads", [None, 2])
def test_every_step_in_one_pass_is_each_by_itself(tiny, monkeypatch, heads):
    """Also where the text is longer than what one pass is asked for."""
    monkeypatch.setattr(why_module, "_AT_ONCE", 3)
    decoding = decode_layers(tiny, PROMPT, 7, measures=False)
    other = next(token for token in range(97) if token != decoding.text_ids[4])
    together = explain_text(tiny, decoding, 5, other, heads)
    assert [why.step for why in together] == list(range(1, 8))
    for step, why in enumerate(together, 1):
        alone = explain(tiny, decoding, step, other if step == 5 else None, heads)
        assert (why.token, why.against, why.written_ids) == (alone.token, alone.against, alone.written_ids)
        assert why.difference == pytest.approx(alone.difference, abs=1e-4)
        assert [part.name for part in why.parts] == [part.name for part in alone.parts]
        for one, same in zip(why.parts, alone.parts, strict=True):
            assert one.logit == pytest.approx(same.logit, abs=1e-4), one


def test_nothing_is_explained_where_nothing_can_be(tiny):
    own = decode_layers(tiny, PROMPT, 2, context="own", measures=False)
    assert explain_text(tiny, own) == ()
    shared = decode_layers(tiny, PROMPT, 2, measures=False)
    assert explain_text(tiny, replace(shared, lens="linear")) == ()
    assert explain_text(random_gpt2(3).to(torch.bfloat16), shared) == ()
    with pytest.raises(UsageError):
        explain_text(tiny, shared, heads=5)
