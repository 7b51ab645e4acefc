"""The numbers of a step against float64 arithmetic, ties included, and a case worked by hand."""

import math

import pytest
import torch

import reference
from layer_decoding import decode_layers
from layer_decoding.lens.measures import Distributions, measure, ranks, top_candidates
from layer_decoding.results.measures import MEASURES, fields


@pytest.mark.parametrize("scale, offset", [(1, 0), (10, -100), (40, 0), (0.01, 5)])
def test_against_float64(scale, offset):
    torch.manual_seed(0)
    logits = torch.randn(6, 997) * scale + offset
    numbers = measure(logits, fields(shared=True), candidates=4, track=(3, 996), text_id=7)
    logp = reference.log_softmax64(logits)
    best = logits.argmax(-1)
    assert torch.allclose(numbers.columns["logprob_nats"].double(), logp[range(6), best], atol=1e-5)
    assert torch.allclose(numbers.columns["entropy_bits"].double(), reference.entropy_bits64(logits), atol=1e-4)
    assert torch.allclose(
        numbers.columns["kl_to_final_bits"].double(), reference.kl_bits64(logits[-1:], logits), rtol=1e-5, atol=1e-4
    )
    assert numbers.columns["final_token_rank"].tolist() == [reference.rank(row, int(best[-1])) for row in logits]
    assert torch.allclose(numbers.columns["surprise_bits"].double(), -logp[:, 7] / math.log(2), atol=1e-4)
    assert torch.allclose(numbers.tracked_probabilities.double(), logp[:, [3, 996]].exp(), atol=1e-6)
    assert numbers.tracked_ranks.tolist() == [[reference.rank(row, 3), reference.rank(row, 996)] for row in logits]
    assert torch.allclose(
        numbers.candidate_probabilities.double(), logp.gather(1, numbers.candidate_ids).exp(), atol=1e-6
    )


@pytest.mark.parametrize(
    "scale, apart", [(3, 1), (10, 1), (0.1, 1), (3, 0.1), (3, 0.01)], ids=["distant", "sharp", "flat", "near", "nearer"]
)
def test_divergence_of_a_real_vocabulary(scale, apart):
    """1e-5 of it, or 1e-6 bits: one product over the vocabulary rounds by a hundred times that near the last layer."""
    torch.manual_seed(0)
    final = torch.randn(1, 49_152) * scale
    logits = torch.cat([final + apart * scale * torch.randn(5, 49_152), final])
    found = Distributions(logits).kl_to_final_bits()
    assert found.tolist() == pytest.approx(reference.kl_bits64(final, logits).tolist(), rel=1e-5, abs=1e-6)


def test_divergence_is_never_negative():
    """Rows that differ from the last by rounding alone: half of their divergences come out below 0."""
    torch.manual_seed(0)
    for _ in range(30):
        final = torch.randn(1, 997) * 3
        rows = torch.cat([final + shift for shift in torch.randn(100)] + [final])
        assert Distributions(rows).kl_to_final_bits().min() == 0


def test_entropy_is_never_negative():
    """A sum of terms none of which is; so nothing is clamped."""
    torch.manual_seed(0)
    rows = torch.cat([torch.randn(300, 997) * scale for scale in (1, 30, 1000, 1e30)] + [torch.zeros(1, 997)])
    entropies = Distributions(rows).entropy_bits()
    assert entropies.min() == 0
    assert not entropies.signbit().any()


def test_worked_by_hand():
    """Probabilities 1/2 1/4 1/4 against 1/4 1/2 1/4: entropies 1.5 bits, KL 1/2·1 - 1/4·1 = 1/4 bit."""
    logits = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]).log()
    numbers = measure(logits, fields(shared=True), candidates=3)
    assert numbers.columns["entropy_bits"].tolist() == pytest.approx([1.5, 1.5])
    assert numbers.columns["kl_to_final_bits"].tolist() == pytest.approx([0.25, 0.0], abs=1e-6)
    assert numbers.columns["logprob_nats"].tolist() == pytest.approx([math.log(0.5)] * 2)
    assert numbers.columns["final_token_rank"].tolist() == [2, 1]
    assert numbers.columns["surprise_bits"].tolist() == pytest.approx([2.0, 1.0])  # at token 0, the last row's own
    assert numbers.candidate_ids.tolist() == [[1, 0, 2], [0, 1, 2]]


def test_kl_of_the_last_row_is_exactly_zero_and_never_negative(mini, prompt_ids):
    decoding = decode_layers(mini.model, prompt_ids, 20)
    assert set(decoding.final_row.kl_to_final_bits) == {0.0}
    assert min(min(row.kl_to_final_bits) for row in decoding.rows) >= 0


def test_rank_one_means_agrees(mini, prompt_ids):
    decoding = decode_layers(mini.model, prompt_ids, 20)
    for row in decoding.rows:
        assert [rank == 1 for rank in row.final_token_rank] == list(decoding.agrees(row))
        assert [step[0].id for step in row.candidates] == list(row.ids)
        assert [math.log(step[0].probability) for step in row.candidates] == pytest.approx(row.logprob_nats, abs=1e-5)


@pytest.mark.parametrize("row", [[0.0] * 50, [1.0, 2.0, 2.0, 0.0, 2.0, 1.0], [3.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
def test_ties_go_to_the_lowest_id(row):
    logits = torch.tensor([row, row])
    expected = sorted(range(len(row)), key=lambda i: (-row[i], i))[:3]
    assert top_candidates(logits, 3).tolist() == [expected] * 2
    assert ranks(logits, torch.arange(len(row)))[0].tolist() == [reference.rank(row, i) for i in range(len(row))]


def test_ties_within_and_beyond_the_last_candidate():
    """Few different values, so that most rows have equals at the edge of the candidates."""
    logits = torch.randint(0, 6, (500, 40), generator=torch.Generator().manual_seed(0)).float()
    expected = [sorted(range(40), key=lambda i, row=row: (-row[i], i))[:5] for row in logits.tolist()]
    assert top_candidates(logits, 5).tolist() == expected


def test_more_candidates_than_tokens():
    assert top_candidates(torch.tensor([[1.0, 3.0, 2.0]]), 10).tolist() == [[1, 2, 0]]


def test_measures_of_a_decoding_against_float64(tiny):
    prompt = [5, 17, 42]
    decoding = decode_layers(tiny, prompt, 6, layers=range(5), track=[11])
    text = list(prompt)
    for step, final in enumerate(decoding.final_row.ids):
        logits = reference.lens_logits(tiny, text)
        for row, own in zip(decoding.rows, logits, strict=True):
            logp = reference.log_softmax64(own)
            assert row.logprob_nats[step] == pytest.approx(logp[row.ids[step]].item(), abs=1e-4)
            assert row.entropy_bits[step] == pytest.approx(reference.entropy_bits64(own).item(), abs=1e-4)
            assert row.kl_to_final_bits[step] == pytest.approx(reference.kl_bits64(logits[-1], own).item(), abs=1e-4)
            assert row.final_token_rank[step] == reference.rank(own, final)
            assert row.surprise_bits[step] == pytest.approx(-logp[final].item() / math.log(2), abs=1e-4)
            assert row.tracked_probabilities[step][0] == pytest.approx(logp[11].exp().item(), abs=1e-5)
            assert row.tracked_ranks[step][0] == reference.rank(own, 11)
        text.append(final)


def test_many_positions_at_once_are_each_measured_alone():
    torch.manual_seed(0)
    logits, text = torch.randn(5, 3, 97), torch.randint(97, (5,))
    together = Distributions(logits, text_ids=text)
    for at, rows in enumerate(logits):
        alone = Distributions(rows, text_ids=text[at])
        for measured in MEASURES:
            field = measured.field
            assert torch.allclose(getattr(together, field)()[at].float(), getattr(alone, field)().float(), atol=1e-6)
