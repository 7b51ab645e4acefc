"""Quicker products against the plain ones: of every size, on both kinds of layer, in pieces where that is quicker."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from conftest import random_gpt2
from layer_decoding import decode_layers, sample
from layer_decoding.lens import products
from layer_decoding.lens.products import quick_head, quick_layers
from layer_decoding.lens.sharing import with_modules

ROWS = [0, 1, 2, 3, 5, 8, 12, 32, 33]


@pytest.fixture(autouse=True)
def two_threads():
    """Pieces are for more threads than one."""
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
    "with no even pieces": lambda: torch.nn.Linear(23, 41),
    "as in GPT-2": lambda: Conv1D(40, 24),
    "as in GPT-2, with no even pieces": lambda: Conv1D(41, 23),
}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_product_in_pieces_is_the_plain_one(layer, rows):
    plain = LAYERS[layer]()
    quick = quick_layers(OneLayer(plain))["layer"]
    width = 23 if "even" in layer else 24
    for hidden in (torch.randn(rows, width), torch.randn(rows, 1, width), torch.randn(rows, width).double().float()):
        with torch.inference_mode():
            ours, theirs = quick(hidden), plain(hidden)
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("layer, divided", [("linear", 40), ("as in GPT-2", 24), ("with no even pieces", 0)])
def test_few_rows_are_multiplied_in_pieces(layer, divided):
    weight = LAYERS[layer]().weight
    counts = {rows: products._pieces(torch.zeros(rows, 1), weight) for rows in ROWS}
    assert counts == {rows: 8 * (rows in range(2, 33) and divided > 0) for rows in ROWS}
    torch.set_num_threads(1)
    assert products._pieces(torch.zeros(8, 1), weight) == 0


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


def test_texts_of_layers_and_samples_are_multiplied_in_pieces(monkeypatch):
    model, rows, pieces = random_gpt2(), set(), products._pieces

    def counted(hidden, weight):
        rows.add(len(hidden))
        return pieces(hidden, weight)

    monkeypatch.setattr(products, "_pieces", counted)
    decode_layers(model, [1, 2], 3, context="own", measures=False)
    assert rows == {4, 3, 2, 1}
    sample(model, [1, 2], 3, num_samples=2)
    assert rows == {4, 3, 2, 1, 8}
