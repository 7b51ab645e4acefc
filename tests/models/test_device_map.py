"""A model that Accelerate has split: everything said of it is what is said of the same model in one piece."""

import pytest
import torch

import multi_layer_decoding_demo as demo
from layer_decoding import beam_search, decode_layers, load_model, measure_text, sample, truncate
from layer_decoding.decoding.text.along import read_layers
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.models import devices

ENDS = {f"transformer.{name}": "cpu" for name in ("wte", "wpe", "drop", "ln_f")} | {"lm_head": "cpu"}


def split(first: str):
    """Blocks in memory and on the disk by turns, from where they are fetched when it is their turn."""
    places = [first, "cpu", "disk", "disk", "cpu", "cpu", "disk", "cpu", "cpu", "cpu", "cpu", "disk"]
    return ENDS | {f"transformer.h.{layer}": place for layer, place in enumerate(places)}


@pytest.fixture(scope="module", params=["cpu", "disk"])
def spread(request):
    loaded = load_model("mini", device_map=split(request.param))
    assert any(parameter.is_meta for parameter in loaded.model.parameters())  # or nothing was split
    return loaded


def test_both_contexts(spread, mini, prompt_ids):
    for context in ("shared", "own"):
        assert decode_layers(spread.model, prompt_ids, 6, context=context) == decode_layers(
            mini.model, prompt_ids, 6, context=context
        )


def test_beam_search_on_layers_and_what_they_say_along_a_text(spread, mini, prompt_ids):
    options = {"num_beams": 3, "layers": [3, 7]}
    found = beam_search(mini.model, prompt_ids, 5, **options)
    assert beam_search(spread.model, prompt_ids, 5, **options) == found
    ids = [*prompt_ids, *found.hypotheses[0].ids]
    along = range(len(prompt_ids), len(ids))
    assert read_layers(spread.model, ids, along) == read_layers(mini.model, ids, along)


def test_sampling_and_a_text(spread, mini, prompt_ids):
    assert sample(spread.model, prompt_ids, 5, num_samples=3) == sample(mini.model, prompt_ids, 5, num_samples=3)
    cut = truncate(spread.model, 4)
    assert sample(cut, prompt_ids, 5) == sample(truncate(mini.model, 4), prompt_ids, 5)
    assert measure_text(spread.model, prompt_ids * 3) == measure_text(mini.model, prompt_ids * 3)


def test_what_is_said_of_it(spread):
    assert set(spread.device.split(", ")) == {"cpu", "disk"}
    assert spread.notes[-1] == f"Accelerate has put it on {spread.device}."
    assert "where Accelerate puts it in float32" in spread.notes[-2]


def test_a_split_model_whose_first_weights_are_elsewhere_takes_ids_where_it_computes():
    ends = {"transformer.wte": "disk", "lm_head": "disk"}
    spread = load_model("mini", device_map=split("disk") | ends)
    assert spread.model.device.type == "meta"
    assert devices.device_of(spread.model) == torch.device("cpu")
    assert len(decode_layers(spread.model, [5, 6], 2).final_row.ids) == 2


def test_auto_is_one_device_where_there_is_one(capsys):
    assert demo.main(["--model", "mini", "--device-map", "auto", "--max-new-tokens", "2"]) == 0
    assert "Accelerate has put it on cpu." in capsys.readouterr().err


def test_a_device_and_a_map_cannot_both_be_meant():
    with pytest.raises(UsageError, match="device cpu was asked for too"):
        load_model("mini", device="cpu", device_map="auto")
    assert demo.main(["--model", "mini", "--device-map", "auto", "--device", "cpu"]) == 2


def test_a_way_that_there_is_not(capsys):
    assert demo.main(["--model", "mini", "--device-map", "evenly"]) == 2
    assert "'evenly'" in capsys.readouterr().err


def test_without_accelerate(monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda _: None)
    with pytest.raises(LayerDecodingError, match="pip install accelerate"):
        load_model("mini", device_map="auto")
