"""How a whole text is read through the lens: in windows and chunks, how far, how long, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BloomConfig, GPT2Config

from conftest import random_gpt2
from layer_decoding.decoding.text.along import read_passage
from layer_decoding.decoding.text.means import measure_text
from layer_decoding.errors import Interrupted, LayerDecodingError, UsageError
from layer_decoding.lens import windows
from layer_decoding.lens.windows import window_length
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.text import render_summaries
from measured_texts import numbers_of, random_ids


def test_nothing_depends_on_how_many_positions_are_taken_at_once(tiny, monkeypatch):
    ids = random_ids(130)
    whole, passage = measure_text(tiny, ids), read_passage(tiny, ids, range(20), measures=False)
    monkeypatch.setattr(windows, "_LOGITS_AT_ONCE", 97 * 4 * 5)
    pieces = measure_text(tiny, ids)
    assert read_passage(tiny, ids, range(20), measures=False) == passage
    for ours, theirs in zip(pieces.layers, whole.layers, strict=True):
        assert numbers_of(ours) == pytest.approx(numbers_of(theirs), abs=1e-5)


@pytest.mark.parametrize("tokens", [2, 60, 70, 130])
def test_windows_read_together_are_read_as_one_by_one(tiny, monkeypatch, tokens):
    """As a GPU reads them: five at once, the text's last one, which may be shorter, by itself."""
    ids, passes = random_ids(tokens), []
    one_by_one = measure_text(tiny, ids, window=8, bias=True)
    monkeypatch.setattr(windows, "windows_at_once", lambda *_: 5)

    def see(_module, args, options):
        passes.append(tuple((args[0] if args else options["input_ids"]).shape))

    tiny.transformer.register_forward_pre_hook(see, with_kwargs=True)
    together = measure_text(tiny, ids, window=8, bias=True)
    assert replace(together, layers=()) == replace(one_by_one, layers=())
    for ours, theirs in zip(together.layers, one_by_one.layers, strict=True):
        assert numbers_of(ours) == pytest.approx(numbers_of(theirs), rel=1e-5, abs=1e-6)
        assert ours.bias_bits == pytest.approx(theirs.bias_bits, abs=1e-5)
    whole, rest = divmod(tokens, 8)
    expected = [(min(5, whole - first), 8) for first in range(0, whole, 5)] + ([(1, rest)] if rest > 1 else [])
    read = [shape for shape in passes if shape[1] > 1]  # the lens reads rows of one
    assert read[-len(expected) :] == expected


class Largest(TorchDispatchMode):
    """The largest tensor that any operation made while this was open."""

    numbers = 0

    def __torch_dispatch__(self, function, _types, args=(), kwargs=None):
        """Look at what comes out."""
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                plain = tensor.layout is torch.strided  # oneDNN's layout does not tell its storage
                size = tensor.untyped_storage().nbytes() // tensor.element_size() if plain else tensor.numel()
                self.numbers = max(self.numbers, size)
        return result


def test_memory_is_bounded_by_the_chunk_and_not_by_the_text(monkeypatch):
    """Neither layers × positions × vocabulary nor anything that grows with the text is made."""
    model = random_gpt2(vocab_size=5000)
    weights = model.lm_head.weight.numel()  # 160,000; the logits of a window in all layers would be 1,280,000
    monkeypatch.setattr(windows, "_LOGITS_AT_ONCE", 100_000)
    largest = []
    for count in (64, 640):
        with Largest() as seen:
            measure_text(model, random_ids(count))
        largest.append(seen.numbers)
    assert largest[0] == largest[1] <= weights


def test_the_passage_and_the_layers_asked_for(tiny):
    ids = random_ids(70)
    whole = read_passage(tiny, ids, range(70))
    part = read_passage(tiny, ids, range(60, 999), layers=[2])
    assert (part.first, part.ids, part.layers) == (61, tuple(ids[60:]), (2, 4))
    for layer in (2, 4):
        assert part.predictions(layer) == whole.predictions(layer)[60:]
    assert part.predictions(4)[4] is None  # token 65 begins the second window
    assert [(start, len(stretch.text_ids)) for start, stretch in part.stretches] == [(0, 4), (5, 5)]
    lone = read_passage(tiny, ids[:65], range(63, 65))
    assert lone.ids == tuple(ids[63:65])  # the last token is a window by itself
    assert lone.predictions(4)[1] is None
    nothing = read_passage(tiny, ids, range(1))
    assert (nothing.stretches, nothing.agrees(2)) == ((), [None])


def test_an_interruption_leaves_the_numbers_of_what_was_read(tiny, monkeypatch):
    monkeypatch.setattr(windows, "_LOGITS_AT_ONCE", 97 * 4 * 10)
    ids = random_ids(64)

    def stop_after(tokens):
        def on_step(read, _):
            if read >= tokens:
                raise KeyboardInterrupt

        return on_step

    with pytest.raises(Interrupted) as stop:
        measure_text(tiny, ids, on_step=stop_after(21))
    read = stop.value.result
    assert (read.scored_count, read.token_count) == (20, 64)
    assert read.read_count == 21
    whole = measure_text(tiny, ids[:21])
    assert read.layers[0].perplexity == pytest.approx(whole.layers[0].perplexity, rel=1e-4)
    with pytest.raises(Interrupted) as stop:
        measure_text(tiny, ids, on_step=stop_after(1))
    assert "Means over 10 predicted tokens of 64" in "\n".join(render_summaries(stop.value.result, Terminal()))

    def stop_at_once(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "forward", stop_at_once)
    with pytest.raises(Interrupted) as stop:
        measure_text(tiny, ids)
    assert stop.value.result is None


def test_progress_counts_the_tokens_read(tiny):
    seen = []
    measure_text(tiny, random_ids(150), on_step=lambda read, _: seen.append(read))
    assert seen == sorted(seen)
    assert seen[-1] == 150


def test_a_lens_that_misses_the_models_logits_is_refused(tiny):
    # Bound to this model, and so blind to the view of it that the lens reads with.
    tiny.forward = lambda forward=tiny.forward, **options: SimpleNamespace(logits=forward(**options).logits * 1.1)
    with pytest.raises(LayerDecodingError, match="misses the logits"):
        measure_text(tiny, random_ids(10))
    assert not any(block._forward_hooks for block in tiny.transformer.h)


def test_memory_that_runs_out_is_said_in_terms_of_the_window(tiny, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tiny.transformer, "forward", fail)
    with pytest.raises(LayerDecodingError, match="64 tokens at once; try a smaller window"):
        measure_text(tiny, random_ids(10))


@pytest.mark.parametrize(
    "ids, options, words",
    [
        ([], {}, "The text is empty"),
        ([3], {}, "The text is one token"),
        ([3, 97], {}, "vocabulary of 97"),
        ([-1, 3], {}, "vocabulary of 97"),
        ([3, 4], {"layers": [5]}, "Layer 5 is out of range"),
        ([3, 4], {"window": 1}, "at least 2"),
        ([3, 4], {"window": 65}, "context holds 64"),
    ],
)
def test_texts_and_options_that_cannot_be(tiny, ids, options, words):
    with pytest.raises(UsageError, match=words):
        measure_text(tiny, ids, **options)


@pytest.mark.parametrize(
    "passage, words", [(range(2, 5), "begins at token 3 and the text has 2"), (range(0), "inside the text")]
)
def test_a_passage_outside_the_text(tiny, passage, words):
    with pytest.raises(UsageError, match=words):
        read_passage(tiny, [3, 4], passage)


@pytest.mark.parametrize("context, asked, length", [(64, None, 64), (10**5, None, 2048), (10**5, 5000, 5000)])
def test_window_of_a_context(context, asked, length):
    model = SimpleNamespace(config=GPT2Config(n_positions=context))
    assert window_length(model, asked) == length


def test_window_of_a_model_that_reads_any_length():
    model = SimpleNamespace(config=BloomConfig())
    assert (window_length(model), window_length(model, 10**6)) == (2048, 10**6)
