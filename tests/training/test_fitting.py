"""Fitting a lens: against NumPy's least squares, a model whose blocks are linear, and the divergence itself."""

from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import torch

from conftest import random_gpt2
from fitted import some_documents
from layer_decoding import fit_lens, measure_text
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.training.fitting.fit import SCALE_TOKENS, Fit, split
from layer_decoding.training.fitting.moments import Moments
from layer_decoding.training.fitting.scales import Scales
from refusals import assert_sentence


def streamed(hidden, parts):
    """Moments of hidden states [S, R, D], taken in several parts."""
    moments = Moments()
    for part in hidden.split(parts):
        moments.add(part)
    return moments


@pytest.mark.parametrize("offset", [0, 1000], ids=["near zero", "far from it"])
def test_streamed_moments_give_the_least_squares_of_numpy(offset):
    hidden = torch.randn(500, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + offset
    matrices, biases = streamed(hidden, 70).solve()
    for layer in range(2):
        rows = numpy.concatenate([hidden[:, layer].numpy() - offset, numpy.ones((500, 1))], 1)
        solution = numpy.linalg.lstsq(rows, hidden[:, -1].numpy(), rcond=None)[0]
        assert matrices[layer].T.numpy() == pytest.approx(solution[:-1], abs=1e-6)
        shifted = biases[layer] + offset * matrices[layer].sum(1)
        assert shifted.numpy() == pytest.approx(solution[-1], abs=1e-6)


def test_a_penalty_is_ridge_regression():
    hidden = torch.randn(200, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x, y = (hidden[:, row] - hidden[:, row].mean(0) for row in range(2))
    ridge = 0.3 * x.var(0, correction=0).mean() * torch.eye(6)
    expected = torch.linalg.solve(x.T @ x / 200 + ridge, x.T @ y / 200).T
    assert torch.allclose(streamed(hidden, 64).solve(0.3)[0][0], expected, atol=1e-9)


def test_a_direction_that_never_varies_gets_nothing():
    hidden = torch.randn(100, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    hidden[:, 0, 3] = 7.0
    matrices, biases = streamed(hidden, 30).solve()
    assert matrices[0][:, 3].abs().max() < 1e-9
    assert biases.isfinite().all()


class LinearBlock(torch.nn.Module):
    """A block that is a linear map."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.eye(32) + torch.randn(32, 32, generator=generator) / 8
        self.bias = torch.randn(32, generator=generator)

    def forward(self, hidden, *_args, **_options):
        return hidden @ self.matrix.T + self.bias


def test_linear_blocks_are_recovered():
    model = random_gpt2()
    third, fourth = (model.transformer.h.__setitem__(at, LinearBlock(at)) or model.transformer.h[at] for at in (2, 3))
    lens = fit_lens(model, some_documents(97, count=30))
    assert lens.layers == (1, 2, 3)
    assert torch.allclose(lens.matrices[2], fourth.matrix, atol=1e-4)
    assert torch.allclose(lens.matrices[1], fourth.matrix @ third.matrix, atol=1e-4)
    assert torch.allclose(lens.biases[1], fourth.matrix @ third.bias + fourth.bias, atol=1e-4)
    assert lens.scales[1:].tolist() == pytest.approx([1, 1], abs=0.02)


def test_each_windows_first_position_is_left_out(tiny):
    documents = some_documents(97, count=16, length=100)  # a window holds 64
    fit = Fit(tiny, documents, tokens=10_000)
    fit.linear()
    assert [len(document) for document in fit.fitted] == [100] * 15
    assert fit.moments.count == 15 * (63 - 1 + 35 - 1)  # nor is the last, after which nothing stands
    assert fit.done == pytest.approx(fit.cost() - 2 * fit.lens_cost, abs=1)  # the last of each window of the scales


def test_what_else_there_is_to_do_counts_as_so_many_tokens(tiny):
    """A product of each position with the head, for each layer, beside one with each parameter of the blocks."""
    told = []
    fit = Fit(tiny, some_documents(97, count=30), tokens=10_000, on_step=lambda tokens, _: told.append(tokens))
    in_blocks = 4 * (12 * 32 * 32 + 13 * 32)
    assert fit.lens_cost == pytest.approx(1 + 4 * 97 * 32 / in_blocks)
    fit.tuned(fit.linear(), steps=3)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(fit.cost(steps=3), rel=0.01)


def test_the_models_own_gradients_are_left_alone():
    model = random_gpt2().requires_grad_()
    fit_lens(model, some_documents(97, count=30), steps=2)
    assert all(weights.grad is None for weights in model.parameters())


def test_a_model_that_the_lens_would_misread_is_refused(monkeypatch):
    model = random_gpt2()
    answers = model.forward
    monkeypatch.setattr(model, "forward", lambda **options: SimpleNamespace(logits=answers(**options).logits * 1.1))
    with pytest.raises(LayerDecodingError, match="misses the logits"):
        fit_lens(model, some_documents(97, count=30))


def test_scales_are_where_the_divergence_is_least(tiny):
    fit = Fit(tiny, some_documents(97, count=40), tokens=10_000)
    lens = fit.linear()
    text = [token for document in fit.aside for token in document][:64]

    def divergences(factor):
        measured = measure_text(tiny, text, lens=replace(lens, scales=lens.scales * factor))
        return torch.tensor([summary.means["kl_to_final_bits"] for summary in measured.layers[:-1]])

    assert (divergences(1.0) < divergences(1.5)).all()
    assert (divergences(1.0) < divergences(0.5)).all()


def test_a_scale_is_found_by_trying_and_between_by_a_parabola():
    """Against the divergence itself, for a layer that is the last one flattened, sharpened, or out of reach."""
    final = torch.randn(40, 50, generator=torch.Generator().manual_seed(3)) * 3
    noise = torch.randn(40, 50, generator=torch.Generator().manual_seed(4))
    layers = [final / 0.73, final / 1.1, final / 0.1, final / 5, final + noise, final - 200]
    scales = Scales(len(layers))
    for part in torch.stack([*layers, final], 1).split(9):
        scales.add(part)
    best = scales.best()
    assert best[:4] == pytest.approx([0.73, 1.1, 0.3, 1.3], abs=0.005)
    assert best[5] == pytest.approx(1, abs=0.005)

    def divergence(scale):
        gaps = final.log_softmax(-1) - (layers[4] * scale).log_softmax(-1)
        return float((final.softmax(-1) * gaps).sum())

    tried = [scale / 1000 for scale in range(300, 1300)]
    assert best[4] == pytest.approx(min(tried, key=divergence), abs=0.01)


def test_steps_of_adam_lower_the_divergence(tiny):
    documents = some_documents(97, count=30)
    linear, tuned = fit_lens(tiny, documents), fit_lens(tiny, documents, steps=30)
    assert (linear.name, tuned.name) == ("linear", "tuned")
    assert torch.equal(linear.scales, tuned.scales)
    text = [token for document in documents[:20] for token in document]

    def divergence(lens):
        return sum(each.means["kl_to_final_bits"] for each in measure_text(tiny, text, lens=lens).layers)

    assert divergence(tuned) < divergence(linear)


def test_the_constant_lens_adds_the_difference_of_the_means(tiny):
    fit = Fit(tiny, some_documents(97), tokens=10_000)
    constant, means = fit.constant(), fit.moments.means().float()
    assert constant.name == "constant"
    assert torch.equal(constant.matrices[1], torch.eye(32))
    assert torch.allclose(constant.biases, means[-1] - means[:-1])


def test_documents_are_parted_whole(tiny):
    documents = some_documents(97, count=25)
    fitted, aside = split(tiny, documents, tokens=700)
    assert aside == [documents[9], documents[19]]
    kept = [document for document in documents if document not in aside]
    assert fitted == [*kept[:11], kept[11][:40]]
    assert split(tiny, documents[:9] + documents, tokens=10_000)[0][:2] == documents[:2]
    assert split(tiny, [documents[0] * 20, documents[1]], tokens=5_000) == ([documents[0] * 20], [documents[1]])
    assert SCALE_TOKENS > 120


@pytest.mark.parametrize(
    "documents, options, words",
    [
        ([], {}, ["0 documents"]),
        ([[1] * 2000], {}, ["1 documents", "at least 2"]),
        (some_documents(97, count=4), {}, ["at least 640 tokens", "180"]),
        (some_documents(97, count=30), {"tokens": 100}, ["at least 640 tokens", "100"]),
        (some_documents(97, count=30), {"penalty": -1.0}, ["penalty", "-1.0"]),
    ],
)
def test_what_no_lens_can_be_fitted_on(tiny, documents, options, words):
    with pytest.raises(UsageError) as caught:
        fit_lens(tiny, documents, **options)
    assert_sentence(str(caught.value), *words)
