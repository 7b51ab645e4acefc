"""Steps taken before anybody looks at them, as on a GPU: the same result, and no step that waits for a number."""

from contextlib import ExitStack

import pytest
import torch

from conftest import random_gpt2, with_end
from layer_decoding import LayerDecodingError, decode_layers
from layer_decoding.decoding import contexts, greedy
from layer_decoding.decoding.steps import Steps
from layer_decoding.errors import Interrupted
from layer_decoding.lens.lens import find_lens
from layer_decoding.lens.measures import measure, ordered_keys, top_candidates
from layer_decoding.results.measures import fields

PROMPT = [5, 17, 42, 8]


@pytest.fixture
def late(monkeypatch):
    """From when it is called on, steps are looked at three at a time, where nobody is told of them."""

    def look_late():
        monkeypatch.setattr(greedy, "steps_at_once", lambda _device, watched: 1 if watched else 3)

    return look_late


def test_on_a_gpu_where_nobody_watches():
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    assert greedy.steps_at_once(gpu, watched=False) > 1
    assert {greedy.steps_at_once(device, watched=True) for device in (cpu, gpu)} == {1}
    assert greedy.steps_at_once(cpu, watched=False) == 1


@pytest.mark.parametrize("context", ["shared", "own"])
@pytest.mark.parametrize("options", [{}, {"measures": False}, {"layers": [2], "track": [11]}], ids=str)
def test_the_same_with_an_end_anywhere(context, options, late):
    def decoded(end):
        return decode_layers(with_end(random_gpt2(4), end), PROMPT, 11, context=context, **options)

    free = decoded(None).final_row.ids
    ends = [None, free[0], free[4], free[7], free[-1]]
    at_once = [decoded(end) for end in ends]
    late()
    assert [decoded(end) for end in ends] == at_once
    assert len({len(each.final_row.ids) for each in at_once}) > 2


def test_who_watches_is_told_at_once(tiny, late):
    late()
    told = []
    decoding = decode_layers(tiny, PROMPT, 5, on_step=lambda step, newest: told.append((step, newest[4])))
    assert told == list(enumerate(decoding.final_row.ids, 1))


@pytest.mark.parametrize("finished", [0, 1, 5, 7])
def test_an_interruption_keeps_what_nobody_had_looked_at(tiny, late, finished):
    whole = decode_layers(tiny, PROMPT, 9)
    late()
    passes = []

    def interrupt(*_):
        passes.append(1)
        if len(passes) > finished:
            raise KeyboardInterrupt

    tiny.transformer.h[2].register_forward_pre_hook(interrupt)
    with pytest.raises(Interrupted) as stopped:
        decode_layers(tiny, PROMPT, 9)
    found = stopped.value.result
    assert [row.ids for row in found.rows] == [row.ids[:finished] for row in whole.rows] if finished else found is None


def test_what_is_not_finite_is_refused_up_to_the_end_of_the_text_and_unseen_after_it(late):
    def spoilt(position, end):
        model = with_end(random_gpt2(4), end)
        model.transformer.wpe.weight[position] = torch.nan
        return decode_layers(model, PROMPT, 11)

    free = decode_layers(random_gpt2(4), PROMPT, 11).final_row.ids
    late()
    end = free[4]
    stop = free.index(end) + 1
    assert spoilt(len(PROMPT) + stop - 1, end).final_row.ids == free[:stop]
    with pytest.raises(LayerDecodingError, match="no finite logits"):
        spoilt(len(PROMPT) + stop - 2, end)


def test_no_step_waits_for_a_number(tiny, monkeypatch):
    """On a device that has none: there to ask is an error."""
    monkeypatch.setattr(contexts, "check_lens", lambda *_: None)  # asks, once
    # transformers asks whether several texts are packed in one, unless a graph is captured.
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda _: None)
    lens, layers = find_lens(tiny.to("meta")), [0, 1, 2, 3, 4]
    steps = Steps("shared", layers, layers, frozenset([7]))
    with torch.inference_mode(), ExitStack() as stack:
        states = contexts.SharedText(lens, layers, stack)
        hidden = states.start(PROMPT)
        for _ in range(3):
            logits = lens.logits(hidden, layers)
            numbers = measure(logits, fields(shared=True), candidates=5, track=(3, 4))
            hidden = states.advance(steps.take(logits, numbers))
        with pytest.raises(NotImplementedError):
            steps.look()


# ---------------------------------------------------------------- ties without a look


@pytest.mark.parametrize("scale", [1, 1e-38, 1e38])
def test_keys_are_ordered_as_the_logits_and_then_by_the_lowest_id(scale):
    """Few different values, both zeros among them, so that most rows have equals at the edge of the candidates."""
    logits = torch.randint(-3, 3, (500, 40), generator=torch.Generator().manual_seed(0)).float() * scale
    logits[::2] = -logits[::2]
    assert logits[::2][logits[::2] == 0].signbit().any()
    assert torch.equal(ordered_keys(logits).topk(5).indices, top_candidates(logits, 5))
    assert len(ordered_keys(logits)[0].unique()) == 40
    ends = torch.tensor([[-torch.inf, torch.inf, 1.0, -1.0, 0.0, torch.finfo().tiny]])
    assert ordered_keys(ends).argsort(descending=True).tolist() == [[1, 2, 5, 4, 3, 0]]
