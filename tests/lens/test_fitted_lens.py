"""A fitted lens against the formula: in the rows, in a text, in a model that is cut, and in every strategy."""

import pytest
import torch

import reference
from conftest import STORY, random_gpt2
from families import FAMILIES
from family_checks import Subject
from fitted import some_lens
from layer_decoding import beam_search, decode_layers, measure_text, read_layers, sample, truncate
from layer_decoding.decoding.sampling import sample_settings
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.layers import HalfStep
from layer_decoding.lens.blocks import find_blocks
from layer_decoding.lens.fitted.file import named_lens
from layer_decoding.lens.lens import find_lens
from layer_decoding.results.settings import GREEDY
from refusals import assert_sentence

PROMPT = [5, 17, 42, 8]


def by_hand(model, lens, layer, ids):
    """s · head(ln_f(A hidden + b)) at every position, from transformers' own hidden states: [S, V]."""
    hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
    place = lens.layers.index(layer)
    moved = hidden @ lens.matrices[place].T + lens.biases[place]
    return lens.scales[place] * model.lm_head(model.transformer.ln_f(moved))


@pytest.fixture
def lens(tiny):
    return some_lens(tiny)


def test_rows_are_the_formula(tiny, lens):
    decoding = decode_layers(tiny, PROMPT, 6, lens=lens)
    ids = [*PROMPT, *decoding.text_ids]
    assert decoding.lens == "linear"
    for row in decoding.rows[:-1]:
        logits = by_hand(tiny, lens, row.layer, ids)[len(PROMPT) - 1 : -1]
        assert list(row.ids) == logits.argmax(-1).tolist()
        logprobs = reference.log_softmax64(logits).max(-1).values
        assert row.logprob_nats == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_the_last_layer_is_left_alone(tiny, lens):
    plain, fitted = decode_layers(tiny, PROMPT, 6), decode_layers(tiny, PROMPT, 6, lens=lens)
    assert fitted.final_row == plain.final_row
    assert fitted.rows[:-1] != plain.rows[:-1]
    hidden = torch.randn(3, 32)
    assert torch.equal(find_lens(tiny, lens).logits(hidden, [4] * 3), find_lens(tiny).logits(hidden, [4] * 3))


@pytest.mark.parametrize(
    "layers",
    [[1, 2, 3, 4], [1, 2, 3, 4] * 3, [2, 2, 2], [4, 4], [3, 1], [1, 3, 4] * 2, [1, 1, 2, 4], [2, 4, 2], [4, 3, 4, 1]],
    ids=str,
)
def test_each_row_goes_through_the_map_of_its_layer(lens, layers):
    hidden = torch.randn(len(layers), 32, generator=torch.Generator().manual_seed(0))
    before, maps = hidden.clone(), dict(zip(lens.layers, zip(lens.matrices, lens.biases, strict=True), strict=True))
    expected = [
        row if layer == 4 else maps[layer][0] @ row + maps[layer][1] for row, layer in zip(hidden, layers, strict=True)
    ]
    assert torch.allclose(lens.translate(hidden, layers), torch.stack(expected), atol=1e-5)
    assert torch.equal(hidden, before)
    half = lens.translate(hidden.bfloat16(), layers)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half, lens.translate(hidden.bfloat16().float(), layers).bfloat16())


def test_a_lens_that_does_nothing_is_the_plain_one(tiny):
    nothing = some_lens(tiny, identity=True)
    plain, fitted = decode_layers(tiny, PROMPT, 6), decode_layers(tiny, PROMPT, 6, lens=nothing)
    for ours, theirs in zip(fitted.rows, plain.rows, strict=True):
        assert ours.ids == theirs.ids
        assert ours.kl_to_final_bits == pytest.approx(theirs.kl_to_final_bits, abs=1e-4)


def test_a_text_is_read_through_it(tiny, lens):
    ids = [*PROMPT, 3, 61, 9, 28, 77]
    read = read_layers(tiny, ids, range(1, len(ids)), lens=lens)
    measured = measure_text(tiny, ids, lens=lens)
    for row, summary in zip(read.rows[:-1], measured.layers, strict=False):
        logits = by_hand(tiny, lens, row.layer, ids)[:-1]
        assert list(row.ids) == logits.argmax(-1).tolist()
        kl = reference.kl_bits64(reference.text_logits(tiny, ids)[:-1], logits).mean()
        assert summary.means["kl_to_final_bits"] == pytest.approx(float(kl), abs=1e-4)
    assert read.lens == measured.lens == "linear"


def test_the_bias_is_the_divergence_of_the_mean_predictions(tiny, lens):
    ids = [*PROMPT, 3, 61, 9, 28, 77]
    measured = measure_text(tiny, ids, lens=lens, bias=True)
    final = reference.log_softmax64(reference.text_logits(tiny, ids)[:-1]).exp().mean(0)
    for summary in measured.layers[:-1]:
        mean = reference.log_softmax64(by_hand(tiny, lens, summary.layer, ids)[:-1]).exp().mean(0)
        assert summary.bias_bits == pytest.approx(float((final * (final / mean).log2()).sum()), abs=1e-4)
    assert measured.layers[-1].bias_bits == 0
    assert all(summary.bias_bits is None for summary in measure_text(tiny, ids).layers)


def test_a_cut_model_goes_on_through_it(tiny, lens):
    ids = [*PROMPT, 3, 61, 9]
    before = reference.text_logits(tiny, ids)
    for layer in lens.layers:
        cut = truncate(tiny, layer, lens)
        assert torch.allclose(reference.text_logits(cut, ids), by_hand(tiny, lens, layer, ids), atol=1e-4)
    assert torch.equal(reference.text_logits(truncate(tiny, 4, lens), ids), before)
    assert torch.equal(reference.text_logits(tiny, ids), before)  # no hook has stayed behind


def test_own_texts_beams_and_samples_follow_it(tiny, lens):
    own = decode_layers(tiny, PROMPT, 6, context="own", lens=lens)
    search = beam_search(tiny, PROMPT, 6, num_beams=3, layers=[2], lens=lens)
    run = sample_settings(tiny, PROMPT, 6, [GREEDY], layers=[2], lens=lens)
    for row in own.rows[:-1]:
        assert list(row.ids) == reference.plain_greedy(truncate(tiny, row.layer, lens), PROMPT, 6)
    second = own.rows[1].ids
    assert second != decode_layers(tiny, PROMPT, 6, context="own").rows[1].ids
    assert search.layers[0].greedy.ids == run.layers[0].greedy.ids == second
    assert search.lens == run.lens == own.lens == "linear"
    for text in search.layers[0].hypotheses:
        logits = by_hand(tiny, lens, 2, [*PROMPT, *text.ids])[len(PROMPT) - 1 : -1]
        logprobs = reference.log_softmax64(logits)[range(6), text.ids]
        assert text.score == pytest.approx(float(logprobs.mean()), abs=1e-4)


def test_a_layer_without_a_map_is_refused(tiny):
    lens = some_lens(tiny, layers=[1, 3])
    for ask in (
        lambda: decode_layers(tiny, PROMPT, 2, lens=lens),
        lambda: read_layers(tiny, PROMPT, range(1, 4), lens=lens),
        lambda: measure_text(tiny, PROMPT, lens=lens),
        lambda: truncate(tiny, 2, lens),
    ):
        with pytest.raises(UsageError) as caught:
            ask()
        assert_sentence(str(caught.value), "no map for layer 2;")
        assert "layers" in caught.value.settings
    with pytest.raises(UsageError) as caught:
        decode_layers(tiny, PROMPT, 2, layers=[2, HalfStep(3)], lens=lens)
    assert_sentence(str(caught.value), "no map for layers 2, 3a (it is fitted to the outputs of blocks")
    with pytest.raises(UsageError, match="layer 0"):
        decode_layers(tiny, PROMPT, 2, layers=[0], lens=some_lens(tiny))
    with pytest.raises(UsageError, match="first block"):
        truncate(tiny, 0, some_lens(tiny, layers=range(4)))
    decode_layers(tiny, PROMPT, 2, layers=[0], lens=some_lens(tiny, layers=range(4)))


@pytest.mark.parametrize("other", [{"seed": 1}, {"n_layer": 3}])
def test_another_models_lens_is_refused(tiny, other):
    lens = some_lens(random_gpt2(**other))
    with pytest.raises(LayerDecodingError) as caught:
        sample(truncate(tiny, 2, lens), PROMPT, 2)
    assert_sentence(str(caught.value), "another model")


def test_a_model_is_known_by_its_final_norm_and_head_and_not_by_its_blocks(lens):
    other = random_gpt2()
    other.transformer.h[1].ln_1.weight.normal_()
    lens.check_model(find_blocks(other))
    other = random_gpt2()
    other.transformer.ln_f.weight.normal_()
    with pytest.raises(LayerDecodingError, match="another final norm"):
        lens.check_model(find_blocks(other))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_in_half_the_bits_is_the_same_model_where_they_hold_its_weights(tied):
    """float32 weights in bfloat16, and float16 ones in either; float32 weights in float16 are rounded twice."""
    lens = some_lens(random_gpt2(tie_word_embeddings=tied))
    halved = random_gpt2(tie_word_embeddings=tied).to(torch.bfloat16)
    assert len(decode_layers(halved, PROMPT, 2, lens=lens).rows) == 4
    with pytest.raises(LayerDecodingError) as caught:
        lens.check_model(find_blocks(random_gpt2(tie_word_embeddings=tied).half()))
    assert_sentence(str(caught.value), "another model", "or was fitted to it in another precision than float16")

    in_float16 = random_gpt2(tie_word_embeddings=tied).half()
    lens = some_lens(in_float16)
    for dtype in (torch.float32, torch.bfloat16):
        lens.check_model(find_blocks(random_gpt2(tie_word_embeddings=tied).half().to(dtype)))


def test_the_bundled_lens_is_nearer_than_the_plain_one_at_every_layer(mini):
    ids = mini.tokenizer.encode(STORY)
    linear = named_lens("linear", mini)
    plain, fitted = measure_text(mini.model, ids), measure_text(mini.model, ids, lens=linear)
    for theirs, ours in zip(plain.layers[:-1], fitted.layers, strict=False):
        assert ours.means["kl_to_final_bits"] < theirs.means["kl_to_final_bits"], f"layer {ours.layer}"
    assert fitted.layers[-1] == plain.layers[-1]


# ---------------------------------------------------------------- families

QUICK = 5
SETS = [
    pytest.param(family, id=family.name, marks=[] if number < QUICK else [pytest.mark.slow])
    for number, family in enumerate(sorted(FAMILIES, key=lambda family: not family.quick))
    if "shared" not in family.refused
]


@pytest.mark.parametrize("family", SETS)
def test_every_family_takes_a_lens(family):
    """A map that does nothing is the plain lens, another moves every layer but the last; own texts are the cut's."""
    model = family.build(None)
    plain = decode_layers(model, PROMPT, 4)
    same = decode_layers(model, PROMPT, 4, lens=some_lens(model, identity=True))
    assert [row.ids for row in same.rows] == [row.ids for row in plain.rows]
    lens = some_lens(model)
    moved = decode_layers(model, PROMPT, 4, lens=lens)
    assert moved.final_row == plain.final_row
    assert all(
        ours.logprob_nats != theirs.logprob_nats for ours, theirs in zip(moved.rows, plain.rows[:-1], strict=False)
    )
    if "own" in family.refused:
        return
    layer = Subject(model, family.blocks).lower  # the library keeps no cache for every cut
    row = decode_layers(model, PROMPT, 4, context="own", layers=[layer], lens=lens).rows[0]
    assert list(row.ids) == reference.plain_greedy(truncate(model, layer, lens), PROMPT, 4)
