"""A cache with room behind what it holds, against transformers' own, which makes everything anew."""

import copy

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from conftest import random_gpt2
from families import FAMILIES
from layer_decoding.lens.cache import copied_up_to, new_cache, repeat_rows
from layer_decoding.lens.roomy_cache import RoomyLayer


def tokens(count, rows=1):
    """Keys and values of so many tokens: [rows, 3, count, 4] and [rows, 3, count, 5]."""
    return torch.randn(rows, 3, count, 4), torch.randn(rows, 3, count, 5)


@pytest.fixture
def both():
    """A layer of ours and one of theirs that have read the same; call it to have them read more and be compared."""
    ours, theirs = RoomyLayer(), DynamicLayer()

    def read(count, rows=1):
        states = tokens(count, rows)
        for mine, its in zip(ours.update(*states), theirs.update(*states), strict=True):
            assert torch.equal(mine, its)
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()

    read.layers = (ours, theirs)
    with torch.inference_mode():
        yield read


def test_it_holds_what_the_usual_one_holds(both):
    for count in (7, *[1] * 40, 30, 1, 1, 200, *[1] * 60):
        both(count)


def test_most_tokens_are_written_where_they_stay(both):
    both(100)
    places = set()
    for _ in range(120):
        both(1)
        places.add(both.layers[0].keys.data_ptr())
    assert len(places) <= 10


@pytest.mark.parametrize("change", ["crop", "repeat", "reset"])
def test_what_was_changed_in_between_goes_on(both, change):
    for count in (5, 1, 1):
        both(count)
    for layer in both.layers:
        {
            "crop": lambda layer: layer.crop(-2),
            "repeat": lambda layer: repeat_rows(layer, 3),
            "reset": lambda layer: layer.reset(),
        }[change](layer)
    for _ in range(3):
        both(1, 3 if change == "repeat" else 1)


def test_texts_that_part_do_not_write_into_each_other():
    """A copy, a cropped copy and the cache itself go on with other tokens; none sees those of another."""
    with torch.inference_mode():
        cache = new_cache(random_gpt2())
        for layer in range(4):
            cache.update(*tokens(6), layer)
            cache.update(*tokens(1), layer)
        others = [copy.deepcopy(cache), copied_up_to(cache, 5)]
        for each in (cache, *others):
            read = each.layers[0].keys.clone()
            mine = tokens(1)
            each.update(*mine, 0)
            assert torch.equal(each.layers[0].keys, torch.cat([read, mine[0]], 2))
        assert torch.equal(cache.layers[0].keys[:, :, :5], others[1].layers[0].keys[:, :, :5])
        assert not torch.equal(cache.layers[0].keys, others[0].layers[0].keys)


def test_gradients_go_through_it():
    """What they go through is not written into again."""
    layer, weight, total = RoomyLayer(), torch.ones(1, requires_grad=True), torch.zeros(())
    for count in (3, 1, 1):
        keys, values = tokens(count)
        everything, _ = layer.update(keys * weight, values)
        total = total + everything.square().sum()
    total.backward()
    assert weight.grad is not None
    assert torch.allclose(weight.grad, 2 * total)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_only_layers_that_hold_all_keys_and_values_are_ours(family):
    model = family.build()
    theirs = DynamicCache(config=model.config)
    for ours, its in zip(new_cache(model).layers, theirs.layers, strict=True):
        assert type(ours) is (RoomyLayer if type(its) is DynamicLayer else type(its))
