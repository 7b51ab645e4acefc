"""The numbers of a whole text through the lens: against plain float64, the model's own loss, and by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reference
from conftest import STORY, random_gpt2
from layer_decoding import decode_layers
from layer_decoding.decoding.text.along import read_layers, read_passage
from layer_decoding.decoding.text.means import TextSums, measure_text
from layer_decoding.errors import UsageError
from layer_decoding.models.texts import encode_text
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import MEASURES
from layer_decoding.results.text import Passage
from measured_texts import numbers_of, random_ids


def in_windows(ids, window):
    """The disjoint windows of a text, the last one as long as it is."""
    return [ids[start : start + window] for start in range(0, len(ids), window)]


# ---------------------------------------------------------------- parity with plain arithmetic


def float64_numbers(model, ids, window, layers):
    """{layer: shares and means of the text} and {layer: predictions of every token}, from the definitions.

    By transformers' own hidden states, of which the last entry is already after ln_f and the others are not.
    """
    sums = {layer: [0.0] * 5 for layer in layers}
    predictions = {layer: [] for layer in layers}
    scored = 0
    for piece in in_windows(ids, window):
        *raw, last = model(torch.tensor([piece]), output_hidden_states=True).hidden_states
        logits = [*(model.lm_head(model.transformer.ln_f(hidden[0])) for hidden in raw), model.lm_head(last[0])]
        scored += len(piece) - 1
        for layer in layers:
            predictions[layer].append(None)
            for here, own in enumerate(piece[1:]):
                row, final = logits[layer][here], logits[-1][here]
                top = min(range(len(row)), key=lambda token: (-float(row[token]), token))
                final_top = min(range(len(row)), key=lambda token: (-float(final[token]), token))
                predictions[layer].append(top)
                # Rank 1 means agrees, ties included.
                assert (reference.rank(row, final_top) == 1) == (top == final_top)
                numbers = [
                    top == final_top,
                    top == own,
                    float(reference.entropy_bits64(row)),
                    float(reference.kl_bits64(final, row)),
                    float(reference.log_softmax64(row)[own]),
                ]
                sums[layer] = [a + b for a, b in zip(sums[layer], numbers, strict=True)]
    return {layer: [number / scored for number in row] for layer, row in sums.items()}, predictions


def predictions_of(passage):
    """What every layer says in a passage: {layer: [ids]}."""
    return {layer: passage.predictions(layer) for layer in passage.layers}


def assert_measures(measures, expected):
    """The means of every layer, to 1e-4."""
    assert [summary.layer for summary in measures.layers] == sorted(expected)
    for summary in measures.layers:
        layer, agreeing, correct, entropy, kl, surprise = numbers_of(summary)
        numbers = [agreeing, correct, entropy, kl, -surprise * math.log(2)]
        assert numbers == pytest.approx(expected[layer], abs=1e-4), layer
        assert summary.perplexity == pytest.approx(math.exp(-expected[layer][-1]), rel=1e-4)


@pytest.mark.parametrize("count, window", [(150, None), (64, None), (65, None), (40, 7), (2, 2)])
def test_against_float64(tiny, count, window):
    """Windows that end the text, that leave one token over, that are longer than it."""
    ids = random_ids(count)
    measures = measure_text(tiny, ids, layers=range(5), window=window)
    passage = read_passage(tiny, ids, range(count), layers=range(5), window=window)
    expected, predictions = float64_numbers(tiny, ids, window or 64, range(5))
    assert measures.window == (window or 64)
    assert measures.scored_count == sum(len(piece) - 1 for piece in in_windows(ids, measures.window))
    assert_measures(measures, expected)
    assert passage.ids == tuple(ids)
    assert predictions_of(passage) == predictions


def test_ties_go_to_the_lowest_id(tiny):
    """With every token twice in the vocabulary, a top token is always one of two equals."""
    half = tiny.transformer.wte.weight.data[:48].clone()
    tiny.transformer.wte.weight.data[48:96] = half
    ids = random_ids(60)
    measures, passage = measure_text(tiny, ids), read_passage(tiny, ids, range(60))
    expected, predictions = float64_numbers(tiny, ids, 64, range(1, 5))
    assert_measures(measures, expected)
    assert predictions_of(passage) == predictions
    assert all(token < 48 or token == 96 for token in passage.predictions(4)[1:])


def test_few_layers_settle_where_all_do(tiny):
    ids = random_ids(20)
    whole, few = (read_layers(tiny, ids, range(1, 20), layers=layers) for layers in (None, [1]))
    assert few.settles_at == whole.settles_at
    assert len(set(few.settles_at)) > 1


def test_the_last_layer_is_exactly_itself(tiny):
    last = measure_text(tiny, random_ids(100)).layers[-1]
    assert last.agreeing_share == 1
    assert last.means["kl_to_final_bits"] == 0


def model_loss(model, ids, window):
    """The model's own mean loss in nats over the same windows."""
    pieces = [piece for piece in in_windows(ids, window) if len(piece) > 1]
    losses = [model(torch.tensor([piece]), labels=torch.tensor([piece])).loss.item() for piece in pieces]
    scored = [len(piece) - 1 for piece in pieces]
    return sum(loss * count for loss, count in zip(losses, scored, strict=True)) / sum(scored)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(2, 150), window=st.integers(2, 64), seed=st.integers(0, 9))
def test_perplexity_is_the_models_own_loss(count, window, seed):
    model = random_gpt2(seed)
    ids = random_ids(count, seed=seed)
    last = measure_text(model, ids, layers=[4], window=window).layers[-1]
    loss = model_loss(model, ids, window)
    assert -last.mean_logprob_nats == pytest.approx(loss, abs=1e-4)
    assert last.perplexity == pytest.approx(math.exp(loss), rel=1e-4)


def test_perplexity_of_the_bundled_model(mini):
    ids = encode_text(mini.tokenizer, STORY * 5)
    assert len(ids) > 2 * mini.model.config.n_positions
    last = measure_text(mini.model, ids).layers[-1]
    loss = model_loss(mini.model, ids.tolist(), mini.model.config.n_positions)
    assert last.perplexity == pytest.approx(math.exp(loss), abs=1e-4)


def test_worked_by_hand():
    """Text 2 1 0 over three tokens: at its second token p = 1/2 1/4 1/4 against 1/4 1/2 1/4, at its third both 1 0 0.

    Entropies (1.5 + 0) / 2 bits; KL (1/4 + 0) / 2; perplexities exp of (log 4 + 0) / 2 = 2, and sqrt(2).
    """
    nothing = -1000.0
    first = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]
    logits = torch.tensor([[[math.log(p) for p in row] for row in first], [[5.0, nothing, nothing]] * 2])
    sums = TextSums([1, 2])
    sums.add(torch.tensor([1, 0]), logits)
    measures = sums.result(SimpleNamespace(layer_count=2, name="plain"), 3, 3, 3)
    assert numbers_of(measures.layers[0]) == pytest.approx([1, 0.5, 0.5, 0.75, 0.125, 1])
    assert numbers_of(measures.layers[1]) == pytest.approx([2, 1, 1, 0.75, 0, 0.5])
    assert [s.mean_logprob_nats for s in measures.layers] == pytest.approx([-math.log(2), -math.log(2) / 2])
    assert [summary.perplexity for summary in measures.layers] == pytest.approx([2, math.sqrt(2)])


def test_a_passage_by_hand():
    """A window of two tokens begins at the first and at the third: nothing is predicted there."""
    rows = [(LayerRow(1, (4,), False), LayerRow(2, (1,), False)), (LayerRow(1, (7,), False), LayerRow(2, (7,), False))]
    texts = ((1,), (3,))
    parts = [LayerDecoding("shared", 2, (0,), 1, row, (1,), (), text) for text, row in zip(texts, rows, strict=True)]
    passage = Passage(1, (0, 1, 2, 3), ((1, parts[0]), (3, parts[1])))
    assert passage.predictions(1) == [None, 4, None, 7]
    assert passage.agrees(1) == [None, False, None, True]
    assert passage.correct(2) == [None, True, None, False]


def test_a_text_is_read_as_greedy_decoding_wrote_it(tiny):
    written = decode_layers(tiny, [3, 14, 15], 8, layers=range(5), track=[9])
    ids = [3, 14, 15, *written.text_ids]
    read = read_layers(tiny, ids, range(3, 11), layers=range(5), track=[9])
    assert read.is_greedy
    assert (read.prompt_ids, read.text_ids, read.settles_at) == ((3, 14, 15), written.text_ids, written.settles_at)
    for ours, theirs in zip(read.rows, written.rows, strict=True):
        assert ours.ids == theirs.ids
        for measure in MEASURES:
            assert getattr(ours, measure.field) == pytest.approx(getattr(theirs, measure.field), abs=1e-4)
        assert [c.id for step in ours.candidates for c in step] == [c.id for step in theirs.candidates for c in step]


def test_any_text_is_read_as_float64_has_it(tiny):
    """The text's own tokens are not the last layer's: ranks are of that one's, surprise is at the text."""
    ids = random_ids(9)
    read = read_layers(tiny, ids, range(4, 9), layers=range(5))
    assert not read.is_greedy
    for step, at in enumerate(range(4, 9)):
        logits = reference.lens_logits(tiny, ids[:at])
        top = int(logits[-1].argmax())
        for row, own in zip(read.rows, logits, strict=True):
            assert row.ids[step] == int(own.argmax())
            assert row.final_token_rank[step] == reference.rank(own, top)
            assert row.surprise_bits[step] == pytest.approx(
                -reference.log_softmax64(own)[ids[at]].item() / math.log(2), abs=1e-4
            )


@pytest.mark.parametrize(
    "positions, words",
    [
        (range(3), "something before the first"),
        (range(5, 5), "not in a text"),
        (range(2, 8, 2), "not in a text"),
        (range(8, 11), "not in a text of 10 tokens"),
    ],
)
def test_positions_that_are_not_in_the_text(tiny, positions, words):
    with pytest.raises(UsageError, match=words):
        read_layers(tiny, random_ids(10), positions)


def test_a_text_longer_than_the_context_is_not_read_in_one_pass(tiny):
    with pytest.raises(UsageError, match="more tokens than the 64"):
        read_layers(tiny, random_ids(70), range(60, 66))
