"""Quicker products against the plain ones: of every size, on both kinds of layer, only where they are quicker."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from conftest import random_gpt2
from layer_decoding import decode_layers, sample
from layer_decoding.lens import products
from layer_decoding.lens.products import quick_head, quick_layers
from layer_decoding.lens.sharing import with_modules

ROWS = [0, 1, 2, 3, 5, 8, 12, 16, 17, 32, 33]


@pytest.fixture(autouse=True)
def two_threads():
    """How many rows are few is told by the threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class OneLayer(torch.nn.Module):
    """What a model is to `quick_layers`: one linear layer, and no head."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        for weights in layer.parameters():
            torch.nn.init.normal_(weights)

    def get_output_embeddings(self):
        return None


LAYERS = {
    "linear": lambda: torch.nn.Linear(24, 40),
    "without a bias": lambda: torch.nn.Linear(24, 40, bias=False),
    "of odd sizes": lambda: torch.nn.Linear(23, 41),
    "as in GPT-2": lambda: Conv1D(40, 24),
    "as in GPT-2, of odd sizes": lambda: Conv1D(41, 23),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_quick_product_is_the_plain_one(layer, rows):
    plain = LAYERS[layer]()
    quick = quick_layers(OneLayer(plain))["layer"]
    width = 23 if "odd" in layer else 24
    for hidden in (torch.randn(rows, width), torch.randn(rows, 1, width), torch.randn(rows, width).double().float()):
        with torch.inference_mode():
            ours, theirs = quick(hidden), plain(hidden)
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.fixture
def quickly(monkeypatch):
    """How many rows each quick product has had, in turn."""
    seen, product = [], products._product

    def counted(rows, weight, bias):
        seen.append(len(rows))
        return product(rows, weight, bias)

    monkeypatch.setattr(products, "_product", counted)
    return seen


@pytest.mark.parametrize("threads, most", [(1, 16), (2, 32)])
@pytest.mark.parametrize("layer", LAYERS)
def test_few_rows_are_multiplied_quickly_and_others_as_ever(quickly, layer, threads, most):
    torch.set_num_threads(threads)
    quick = quick_layers(OneLayer(LAYERS[layer]()))["layer"]
    for rows in ROWS:
        quick(torch.randn(rows, 23 if "odd" in layer else 24))
    assert quickly == [rows for rows in ROWS if 3 <= rows <= most]


def test_gradients_go_through():
    """What oneDNN is called by here has none, so whoever asks for them gets the plain product."""
    plain = torch.nn.Linear(24, 40)
    hidden = torch.randn(8, 24, requires_grad=True)
    quick_layers(OneLayer(plain))["layer"](hidden).sum().backward()
    assert torch.allclose(hidden.grad, plain.weight.sum(0).expand(8, -1), atol=1e-5)


@pytest.mark.parametrize("there", [True, False])
def test_without_onednn_it_is_the_plain_product(monkeypatch, there):
    """It was not built in, or its operation is not there: neither is called."""
    plain, hidden = torch.nn.Linear(24, 40), torch.randn(8, 24)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", pytest.fail if there else None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: not there)
    with torch.inference_mode():
        assert torch.equal(quick_layers(OneLayer(plain))["layer"](hidden), plain(hidden))


def test_a_head_has_it_for_any_number_of_rows(quickly):
    head = quick_head(random_gpt2())["lm_head"]
    for rows in ROWS:
        head(torch.randn(rows, 32))
    assert quickly == ROWS


def test_a_model_in_16_bits_is_multiplied_as_it_was():
    plain = torch.nn.Linear(24, 40).bfloat16()
    hidden = torch.randn(8, 24).bfloat16()
    assert torch.equal(quick_layers(OneLayer(plain))["layer"](hidden), plain(hidden))


def test_a_view_has_them_and_the_model_stays_as_it_was():
    model = random_gpt2()
    ids = torch.arange(12)[:, None]
    before = {path: vars(module).copy() for path, module in model.named_modules()}
    quick = quick_layers(model)
    assert set(quick) == {"lm_head"} | {
        f"transformer.h.{block}.{path}"
        for block in range(4)
        for path in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert set(quick_head(model)) == {"lm_head"}
    with torch.inference_mode():
        ours = with_modules(model, quick)(ids).logits
        assert (ours - model(ids).logits).abs().max() < 1e-4
    assert {path: vars(module) for path, module in model.named_modules()} == before


def test_texts_of_layers_and_samples_are_multiplied_quickly(quickly):
    model = random_gpt2()
    decode_layers(model, [1, 2], 3, context="own", measures=False)
    assert set(quickly) >= {4, 3}
    quickly.clear()
    sample(model, [1, 2], 3, num_samples=2)
    assert 8 in quickly
