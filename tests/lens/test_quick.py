"""Quick twins against the layers that they stand for: of every size, of both kinds, only where they are quicker."""

from functools import partial

import pytest
import torch
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from conftest import random_gpt2
from layer_decoding import LayerDecodingError, decode_layers, sample
from layer_decoding.lens import products
from layer_decoding.lens.products import product
from layer_decoding.lens.quick import plain_twins, quick_head, with_quick_twins

onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
ROWS = [0, 1, 2, 3, 5, 8, 12, 16, 17, 32, 33]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """How many rows are few is told by the threads; what is large, here, is every weight."""
    monkeypatch.setattr("layer_decoding.lens.quick._SMALLEST", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class OneLayer(torch.nn.Module):
    """What a model is to `with_quick_twins`: one linear layer, and no head."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        for weights in layer.parameters():
            torch.nn.init.normal_(weights)

    def get_output_embeddings(self):
        return None


class OneHead(torch.nn.Module):
    """What a model is to `quick_head`: one head."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def get_output_embeddings(self):
        return self.head


def twins_in(view):
    """The dotted paths of a view's twins, but for the activations'."""
    return {path for path, module in view.named_modules() if "forward" in vars(module) and not path.endswith(".act")}


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
    quick = with_quick_twins(OneLayer(plain)).layer
    width = 23 if "odd" in layer else 24
    for hidden in (torch.randn(rows, width), torch.randn(rows, 1, width), torch.randn(rows, width).double().float()):
        with torch.inference_mode():
            ours, theirs = quick(hidden), plain(hidden)
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_row_that_lies_scattered():
    plain, hidden = Conv1D(40, 24), torch.randn(24, 3).T[:1]
    with torch.inference_mode():
        quick = with_quick_twins(OneLayer(plain)).layer
        assert torch.allclose(quick(hidden), plain(hidden), atol=1e-5)


@pytest.fixture
def quickly(monkeypatch):
    """How many rows each quick product has had, in turn."""
    seen = []

    def counted(rows, weight, bias, **options):
        seen.append(len(rows))
        return product(rows, weight, bias, **options)

    monkeypatch.setattr("layer_decoding.lens.quick.product", counted)
    return seen


@pytest.mark.parametrize("threads, most", [(1, 16), (2, 32)])
@pytest.mark.parametrize("layer", LAYERS)
def test_few_rows_are_multiplied_quickly_and_others_as_ever(quickly, layer, threads, most):
    torch.set_num_threads(threads)
    quick = with_quick_twins(OneLayer(LAYERS[layer]())).layer
    for rows in ROWS:
        quick(torch.randn(rows, 23 if "odd" in layer else 24))
    assert quickly == [rows for rows in ROWS if (2 if threads == 1 else 1) <= rows <= most]


def test_gradients_go_through():
    """What oneDNN is called by here has none, so whoever asks for them gets the plain product."""
    plain = torch.nn.Linear(24, 40)
    hidden = torch.randn(8, 24, requires_grad=True)
    with_quick_twins(OneLayer(plain)).layer(hidden).sum().backward()
    assert torch.allclose(hidden.grad, plain.weight.sum(0).expand(8, -1), atol=1e-5)
    assert torch.allclose(plain.weight.grad, hidden.sum(0).expand(40, -1), atol=1e-5)
    plain.weight.grad = None
    with_quick_twins(OneLayer(plain)).layer(hidden.detach()).sum().backward()  # the weight's only
    assert plain.weight.grad is not None


@pytest.mark.parametrize("there", [True, False])
def test_without_onednn_it_is_the_plain_product(monkeypatch, there):
    """It was not built in, or its operation is not there: neither is called."""
    plain, hidden = torch.nn.Linear(24, 40), torch.randn(8, 24)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", pytest.fail if there else None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: not there)
    with torch.inference_mode():
        assert torch.equal(with_quick_twins(OneLayer(plain)).layer(hidden), plain(hidden))


def test_a_head_has_it_for_any_number_of_rows(quickly):
    head = quick_head(random_gpt2())["lm_head"]
    for rows in ROWS:
        head(torch.randn(rows, 32))
    assert quickly == ROWS


@pytest.mark.parametrize("place", [torch.bfloat16, torch.float16, torch.float64, "meta"])
def test_a_model_in_16_bits_or_elsewhere_has_no_twins(place):
    """On a GPU, as `meta` stands for one here, each would only cost a step's time."""
    model = random_gpt2().to(place)
    quick = [module for module in with_quick_twins(model).modules() if "forward" in vars(module)]
    assert all(type(module) is NewGELUActivation for module in quick)  # which looks each time at what it is given
    assert quick_head(model) == {}


def test_a_small_weight_is_multiplied_as_ever_but_for_the_head(monkeypatch):
    """It lies in a cache, where oneDNN's preparations take longer than the product."""
    monkeypatch.undo()
    view = with_quick_twins(random_gpt2())
    assert twins_in(view) == {"lm_head"}
    assert "forward" in vars(with_quick_twins(OneLayer(torch.nn.Linear(512, 1024))).layer)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 12, 32, 33])
@onednn
def test_tokens_of_equal_weights_are_exactly_equal(rows):
    """So that of two such tokens the first is the likeliest, wherever they stand."""
    head = torch.nn.Linear(173, 1009, bias=False)
    head.weight.data[:] = head.weight.data[:1].clone()
    with torch.inference_mode():
        logits = quick_head(OneHead(head))["head"](torch.randn(rows, 173))
    assert torch.equal(logits, logits[:, :1].expand_as(logits))


@pytest.mark.parametrize(
    "layer, distinct, ways",
    [
        ("linear", None, dict.fromkeys([2, 3, 4, 8, 32], "_as_weight")),
        ("linear", 1, {8: "_as_weight"}),
        ("as in GPT-2", None, dict.fromkeys([1, 2, 3], "_in_parts")),
        ("as in GPT-2", 1, {}),  # two rows have other bits in parts than eight have
        ("as in GPT-2, of odd sizes", None, {}),
    ],
)
@onednn
def test_the_way_that_is_quickest(monkeypatch, layer, distinct, ways):
    found, usual = {}, {way: getattr(products, way) for way in ("_as_weight", "_in_parts")}

    def noted(way, *arguments):
        found[rows] = way
        return usual[way](*arguments)

    for way in usual:
        monkeypatch.setattr(products, way, partial(noted, way))
    quick = with_quick_twins(OneLayer(LAYERS[layer]()), distinct).layer
    with torch.inference_mode():
        for rows in (1, 2, 3, 4, 8, 32, 33) if distinct is None else (8,):
            quick(torch.randn(1, 23 if "odd" in layer else 24).expand(rows, -1).clone())
    assert found == ways


@pytest.mark.parametrize("rows, columns", [(2, 8), (8, 8), (9, 16), (12, 16)])
def test_rows_handed_over_as_the_weight_are_filled_up_for_the_kernel(rows, columns):
    seen = []

    def product(weight, filled, *_):
        seen.append(len(filled))
        return torch.nn.functional.linear(weight, filled)

    hidden, weight, bias = torch.randn(rows, 24), torch.randn(40, 24), torch.randn(40)
    ours = products._as_weight(product, hidden, weight, bias)
    assert torch.allclose(ours, torch.nn.functional.linear(hidden, weight, bias), atol=1e-5)
    assert seen == [columns]


def test_a_view_has_them_and_the_model_stays_as_it_was():
    model = random_gpt2()
    ids = torch.arange(12)[:, None]
    before = {path: vars(module).copy() for path, module in model.named_modules()}
    view = with_quick_twins(model)
    assert twins_in(view) == {"lm_head"} | {
        f"transformer.h.{block}.{path}"
        for block in range(4)
        for path in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    assert set(quick_head(model)) == {"lm_head"}
    with torch.inference_mode():
        assert (view(ids).logits - model(ids).logits).abs().max() < 1e-4
    assert {path: vars(module) for path, module in model.named_modules()} == before


@pytest.mark.parametrize("context", ["shared", "own"])
def test_a_layer_with_a_forward_of_its_own_keeps_it(context):
    """As those have who try out what a model does without a part of it."""
    model, without = random_gpt2(), random_gpt2()
    for block in without.transformer.h:
        torch.nn.init.zeros_(block.mlp.c_proj.weight)
        torch.nn.init.zeros_(block.mlp.c_proj.bias)
    for block in model.transformer.h:
        block.mlp.c_proj.forward = lambda hidden: torch.zeros(*hidden.shape[:-1], 32)
    ours, expected = (decode_layers(each, [1, 2], 9, context=context, measures=False) for each in (model, without))
    assert [row.ids for row in ours.rows] == [row.ids for row in expected.rows]
    assert [row.ids for row in ours.rows] != [
        row.ids for row in decode_layers(random_gpt2(), [1, 2], 9, context=context, measures=False).rows
    ]


def test_the_numbers_that_others_are_compared_with_are_the_models_own(quickly):
    model, ids = random_gpt2(), torch.arange(12)[:, None]
    view = with_quick_twins(model)
    with torch.inference_mode(), plain_twins():
        assert torch.equal(view(ids).logits, model(ids).logits)
    assert not quickly


@pytest.mark.parametrize("context, outputs", [("shared", {97}), ("own", {97}), ("own", {96, 128})])
def test_a_product_that_is_wrong_is_noticed(monkeypatch, context, outputs):
    """In the head on the prompt, in the blocks by what the whole model says after one token."""

    def product(rows, weight, bias, **_):
        wrong = len(weight) in outputs
        return torch.nn.functional.linear(rows, weight, bias) * (2 if wrong else 1)

    monkeypatch.setattr("layer_decoding.lens.quick.product", product)
    with pytest.raises(LayerDecodingError, match="so its numbers would be wrong"):
        decode_layers(random_gpt2(), [1, 2], 3, context=context)


def test_a_module_in_two_places_stays_one():
    model = random_gpt2()
    model.transformer.h[2] = model.transformer.h[1]
    view = with_quick_twins(model)
    assert view.transformer.h[2] is view.transformer.h[1] is not model.transformer.h[1]
    assert view.transformer.h[2].mlp.c_fc is not model.transformer.h[2].mlp.c_fc


# ---------------------------------------------------------------- rows that are the first one again


def filled_up(texts, rows, width=24):
    """[rows, width]: so many rows that differ, and the first again."""
    some = torch.randn(texts, width)
    return torch.cat([some, some[:1].expand(rows - texts, -1)])


@pytest.mark.parametrize("texts", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_pass_that_is_filled_up_has_the_bits_of_a_full_one(layer, texts):
    model, width = OneLayer(LAYERS[layer]()), 23 if "odd" in layer else 24
    every, quick = with_quick_twins(model).layer, with_quick_twins(model, texts).layer
    with torch.inference_mode():
        for _ in range(3):
            hidden = filled_up(texts, 8, width)[:, None]
            assert torch.equal(quick(hidden), every(hidden))


@pytest.mark.parametrize("texts, fewer", [(1, 2), (2, 2), (3, 3), (7, 7), (8, 8)])
def test_what_fills_a_pass_up_is_not_multiplied(monkeypatch, texts, fewer):
    """Except the first time, when both ways are compared."""
    seen = []

    def product(rows, weight, bias, **_):
        """In which the number of rows makes no difference, by any library."""
        seen.append(len(rows))
        return torch.cat([torch.nn.functional.linear(row, weight, bias) for row in rows.split(1)])

    monkeypatch.setattr("layer_decoding.lens.quick.product", product)
    quick = with_quick_twins(OneLayer(torch.nn.Linear(24, 40)), texts).layer
    for _ in range(3):
        quick(filled_up(texts, 8))
    assert seen == ([8, 8, 8] if fewer == 8 else [fewer, 8, fewer, fewer])


@pytest.mark.parametrize("rest", [torch.randn(5, 24), torch.full((5, 24), torch.nan)])
def test_rows_that_are_not_the_first_again_are_multiplied(quickly, rest):
    model = OneLayer(torch.nn.Linear(24, 40))
    hidden = torch.cat([torch.randn(3, 24), rest])
    ours, theirs = with_quick_twins(model, 3).layer(hidden), with_quick_twins(model).layer(hidden)
    assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    assert quickly == [8, 8]


def test_a_product_that_rounds_by_its_size_is_of_all_rows(monkeypatch):
    """By a library in which a row's last bit depends on how many rows there are."""
    seen = []

    def product(rows, weight, bias, **_):
        """In which nine rows go as two do, and eight do not."""
        seen.append(len(rows))
        one_by_one = torch.cat([torch.nn.functional.linear(row, weight, bias) for row in rows.split(1)])
        return one_by_one * (1 + 1e-6 * (len(rows) == 8))

    monkeypatch.setattr("layer_decoding.lens.quick.product", product)
    quick = with_quick_twins(model := OneLayer(torch.nn.Linear(24, 40)), 1).layer
    for rows, multiplied in ((9, [2, 9]), (8, [2, 8]), (9, [2]), (8, [8]), (8, [8])):
        hidden = filled_up(1, rows)
        expected = product(hidden, model.layer.weight, model.layer.bias)
        seen.clear()
        assert torch.equal(quick(hidden), expected)
        assert seen == multiplied


def test_texts_of_layers_and_samples_are_multiplied_quickly(quickly):
    model = random_gpt2()
    decode_layers(model, [1, 2], 3, context="own", measures=False)
    assert set(quickly) >= {4, 3}
    quickly.clear()
    sample(model, [1, 2], 3, num_samples=11)
    assert set(quickly) >= {8, 3}  # a full pass, and one that is filled up
