"""What the project must get right on a model, whatever its family: each check asks it and compares with the reference.

The reference is plain transformers on a copy of the model that has its first k blocks only. A check ends in one of two
ways, every number right or the model refused in one sentence; a number that is not right is an AssertionError.
"""

import math
from functools import cached_property

import pytest
import torch

import reference
from layer_decoding import (
    beam_search,
    decode_layers,
    explain,
    explain_text,
    measure_text,
    read_layers,
    sample,
    truncate,
)
from layer_decoding.decoding.text.along import read_passage
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.layers import HalfStep
from refusals import assert_sentence

PROMPT = [5, 17, 42, 8, 3, 9, 77, 60, 12, 33]  # longer than any window in the table of families
TEXT = [*PROMPT, 61, 4, 90, 28, 28, 71, 1, 50, 36, 19]
NEW, FEWER, WINDOW = 8, 6, 12
WITHOUT_ATTENTION = {"linear_attention", "conv", "recurrent", "moe", "mlp"}
CLOSE = 2e-4  # nats or bits
# What the families call what stands beside a block's attention, or the last of it where the residual goes through it.
MLPS = (
    *("mlp", "ffn", "feed_forward", "mlp_block", "fc2", "block_sparse_moe", "shared_mlp", "per_layer_projection"),
    *("mlp.dense_4h_to_h", "ffn.down_proj"),
)


class Subject:
    """A model and its reference: itself cut off after each block, with what those say."""

    def __init__(self, model, blocks):
        self.model, self.blocks = model, blocks
        self.layer_count = len(model.get_submodule(blocks))
        self._cuts = {}

    @property
    def layers(self):
        return range(1, self.layer_count + 1)

    def cut(self, layer):
        if layer not in self._cuts:
            self._cuts[layer] = reference.cut(self.model, layer, self.blocks)
        return self._cuts[layer]

    def greedy(self, layer, new):
        """The reference's greedy text of a layer."""
        return reference.greedy(self.cut(layer), PROMPT, new, use_cache=self.has_cache(layer))

    def has_cache(self, layer):
        """Whether the library can keep a cache for a cut model; it asks the attention of one how long it is."""
        types = set(getattr(self.cut(layer).config, "layer_types", None) or ["full_attention"])
        return layer > 0 and not types <= WITHOUT_ATTENTION

    @property
    def lower(self):
        """A layer below the last to search and to sample on."""
        return next(layer for layer in self.layers if layer > 1 and self.has_cache(layer))

    @cached_property
    def text(self):
        """What the whole model writes."""
        return self.greedy(self.layer_count, NEW)

    def predictions(self, layer, ids, first):
        """A layer's logits for the tokens of a text from number `first` on, counted from 0: [S, V].

        A half step's are those of the model cut off after its block, with that block's MLP put out.
        """
        if isinstance(layer, HalfStep):
            model = self.cut(layer.block)
            with reference.put_out(model.get_submodule(self.blocks)[-1], MLPS):
                return reference.text_logits(model, ids)[first - 1 : -1]
        return reference.text_logits(self.cut(layer), ids)[first - 1 : -1]


def outcome(check, subject):
    """ "exact" or "refused"; anything else is an error."""
    try:
        check(subject)
    except UsageError:
        raise
    except LayerDecodingError as refusal:
        assert_sentence(str(refusal))
        return "refused"
    return "exact"


# ---------------------------------------------------------------- greedy


def shared(subject):
    """Every layer's next token along the text that the whole model writes, and its measures."""
    decoding = decode_layers(subject.model, PROMPT, NEW)
    assert list(decoding.final_row.ids) == subject.text
    assert [row.layer for row in decoding.rows] == list(subject.layers)
    for row in decoding.rows:
        assert_row(subject, row, [*PROMPT, *subject.text])
        assert_measures_against_final(subject, row, [*PROMPT, *subject.text])


def own(subject):
    """Every layer's own text: the greedy text of the model cut off after it."""
    decoding = decode_layers(subject.model, PROMPT, NEW, context="own")
    assert [row.layer for row in decoding.rows] == list(subject.layers)
    for row in decoding.rows:
        assert list(row.ids) == subject.greedy(row.layer, NEW), f"layer {row.layer}"
        assert_row(subject, row, [*PROMPT, *row.ids])


def embeddings(subject):
    """Layer 0 in both contexts."""
    row = decode_layers(subject.model, PROMPT, NEW, layers=[0]).rows[0]
    assert_row(subject, row, [*PROMPT, *subject.text])
    row, final = decode_layers(subject.model, PROMPT, NEW, layers=[0], context="own").rows
    assert list(row.ids) == reference.plain_greedy(subject.cut(0), PROMPT, NEW)
    assert list(final.ids) == subject.text


def assert_row(subject, row, ids):
    """A row's tokens, log-probabilities, entropies and first candidates, along the ids it was asked to follow."""
    logits = subject.predictions(row.layer, ids, len(PROMPT))
    assert list(row.ids) == logits.argmax(-1).tolist(), f"layer {row.layer}"
    logprobs = reference.log_softmax64(logits).max(-1).values
    assert row.logprob_nats == pytest.approx(logprobs.tolist(), abs=CLOSE), f"layer {row.layer}"
    assert row.entropy_bits == pytest.approx(reference.entropy_bits64(logits).tolist(), abs=CLOSE), f"layer {row.layer}"
    first = [candidates[0].probability for candidates in row.candidates]
    assert first == pytest.approx(logprobs.exp().tolist(), abs=CLOSE)


def assert_measures_against_final(subject, row, ids):
    """Divergence from the whole model, and the rank of its token."""
    logits, final = (subject.predictions(layer, ids, len(PROMPT)) for layer in (row.layer, subject.layer_count))
    divergences = reference.kl_bits64(final, logits).tolist()
    assert row.kl_to_final_bits == pytest.approx(divergences, abs=CLOSE), f"layer {row.layer}"
    ranks = [reference.rank(here, int(there.argmax())) for here, there in zip(logits, final, strict=True)]
    assert list(row.final_token_rank) == ranks, f"layer {row.layer}"


def halves(subject):
    """Every block's half step beside its output: its tokens and measures along the text of the whole model."""
    layers = [layer for block in subject.layers for layer in (HalfStep(block), block)]
    decoding = decode_layers(subject.model, PROMPT, NEW, layers=layers)
    assert [row.layer for row in decoding.rows] == layers
    assert list(decoding.final_row.ids) == subject.text
    for row in decoding.rows:
        assert_row(subject, row, [*PROMPT, *subject.text])
        assert_measures_against_final(subject, row, [*PROMPT, *subject.text])


def why(subject):
    """What every part adds to the difference of two logits, which is the reference's and that of the blocks."""
    decoding = decode_layers(subject.model, PROMPT, 3, layers=[0], measures=False)
    found = explain(subject.model, decoding, 3)
    ids = [*PROMPT, *decoding.text_ids[:2]]
    logits = reference.text_logits(subject.model, ids)[-1].double()
    if found.soft_cap is not None:
        logits = found.soft_cap * torch.atanh(logits / found.soft_cap)
    first, second = logits.topk(2)
    assert [found.token, found.against] == second.tolist()
    assert found.difference == pytest.approx(float(first[0] - first[1]), abs=CLOSE)
    assert found.total == pytest.approx(found.difference, abs=CLOSE)
    assert {part.layer for part in found.parts} - {None} == set(subject.layers)
    assert all(part.logit for part in found.parts)
    together = explain_text(subject.model, decoding)[2]
    assert [part.logit for part in together.parts] == pytest.approx([part.logit for part in found.parts], abs=CLOSE)


# ---------------------------------------------------------------- beam search, sampling, a text, truncation


def beam(subject):
    """The library's hypotheses, each score that of a plain pass, and what every layer says along the best."""
    search = beam_search(subject.model, PROMPT, FEWER, num_beams=3)
    assert_found(subject, subject.layer_count, search)
    best = [*PROMPT, *search.hypotheses[0].ids]
    along = read_layers(subject.model, best, range(len(PROMPT), len(best)))
    assert [row.layer for row in along.rows] == list(subject.layers)
    for row in along.rows:
        assert list(row.ids) == subject.predictions(row.layer, best, len(PROMPT)).argmax(-1).tolist(), row.layer


def assert_found(subject, layer, found):
    """What a search found on a layer: texts, log-probabilities, scores, and the greedy text."""
    model = subject.cut(layer)
    expected = reference.library_search(model, PROMPT, FEWER, num_beams=3, num_return_sequences=3)
    assert [text.ids for text in found.hypotheses] == [ids for ids, _ in expected], f"layer {layer}"
    for text in found.hypotheses:
        logprobs = reference.text_logprobs(model, PROMPT, text.ids)
        assert text.token_logprob_nats == pytest.approx(logprobs, abs=CLOSE), f"layer {layer}"
        assert text.score == pytest.approx(sum(logprobs) / FEWER, abs=CLOSE)
    assert list(found.greedy.ids) == subject.greedy(layer, FEWER)


def sampling(subject):
    """A sample is the same among few and among many, as likely as a plain pass says, and greedy at temperature 0."""
    many, few = (sample(subject.model, PROMPT, FEWER, num_samples=n, seed=3).samples for n in (5, 2))
    assert [text.ids for text in many[:2]] == [text.ids for text in few]
    assert len({text.ids for text in many}) > 1
    for text in many:
        logits = subject.predictions(subject.layer_count, [*PROMPT, *text.ids], len(PROMPT))
        logprobs = reference.log_softmax64(logits)[range(FEWER), text.ids].tolist()
        assert text.token_logprob_nats == pytest.approx(logprobs, abs=CLOSE)
        assert text.entropy_bits == pytest.approx(reference.entropy_bits64(logits).tolist(), abs=CLOSE)
    cold = sample(subject.model, PROMPT, FEWER, temperature=0).samples[0]
    assert list(cold.ids) == subject.greedy(subject.layer_count, FEWER)


def on_a_layer(subject):
    """Beam search and sampling on the model cut off after a block."""
    layer = subject.lower
    search = beam_search(subject.model, PROMPT, FEWER, num_beams=3, layers=[layer])
    assert [found.layer for found in search.layers] == [layer, subject.layer_count]
    assert_found(subject, layer, search.layers[0])
    cold = sample(truncate(subject.model, layer), PROMPT, FEWER, temperature=0).samples[0]
    assert list(cold.ids) == subject.greedy(layer, FEWER)


def text(subject):
    """A text in two windows: every layer's predictions, and its means over them."""
    measured = measure_text(subject.model, TEXT, window=WINDOW)
    passage = read_passage(subject.model, TEXT, range(len(TEXT)), window=WINDOW)
    windows = [TEXT[:WINDOW], TEXT[WINDOW:]]
    own = torch.tensor([token for window in windows for token in window[1:]])
    final = torch.cat([subject.predictions(subject.layer_count, window, 1) for window in windows])
    for summary in measured.layers:
        parts = [subject.predictions(summary.layer, window, 1) for window in windows]
        logits = torch.cat(parts)
        tops = logits.argmax(-1)
        expected = [
            (tops == final.argmax(-1)).double().mean(),
            (tops == own).double().mean(),
            reference.entropy_bits64(logits).mean(),
            reference.kl_bits64(final, logits).mean(),
            -reference.log_softmax64(logits)[range(len(own)), own].mean() / math.log(2),
        ]
        means = [summary.agreeing_share, summary.correct_share, *summary.means.values()]
        assert means == pytest.approx([float(mean) for mean in expected], abs=CLOSE), f"layer {summary.layer}"
        said = [token for part in parts for token in [None, *part.argmax(-1).tolist()]]
        assert passage.predictions(summary.layer) == said


def truncation(subject):
    """A view cut off after each block is the copy that is, and the model stays as it was."""
    model = subject.model
    before, configuration = reference.text_logits(model, PROMPT), model.config.to_dict()
    for layer in subject.layers:
        if not subject.has_cache(layer):
            with pytest.raises(LayerDecodingError):
                truncate(model, layer)
            continue
        view = truncate(model, layer)
        expected = reference.text_logits(subject.cut(layer), PROMPT)
        assert torch.allclose(reference.text_logits(view, PROMPT), expected, atol=1e-4), f"layer {layer}"
        assert Subject(view, subject.blocks).layer_count == view.config.num_hidden_layers == layer
        assert reference.greedy(view, PROMPT, FEWER) == subject.greedy(layer, FEWER), f"layer {layer}"
    assert torch.equal(reference.text_logits(model, PROMPT), before)
    assert model.config.to_dict() == configuration
    assert len(model.get_submodule(subject.blocks)) == subject.layer_count


COLUMNS = {
    "shared": shared,
    "own": own,
    "beam": beam,
    "sampling": sampling,
    "beam, sampling on a layer": on_a_layer,
    "text": text,
    "halves": halves,
    "why": why,
}
CHECKS = COLUMNS | {"embeddings": embeddings, "truncation": truncation}
