"""The greedy script's JSON: keys, lengths, finite numbers or null, ids without the prompt, end-of-text."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers

import goldens
import layer_decoding
import multi_layer_decoding_demo as demo
from conftest import random_gpt2
from layer_decoding import decode_layers
from layer_decoding.files.documents import greedy_document, to_json
from layer_decoding.results.greedy import Candidate, LayerDecoding, LayerRow
from layer_decoding.terminal.pieces import Pieces

HEAD = ["schema", "versions", "model", "device", "dtype", "layer_count", "prompt", "max_new_tokens"]
ROW = ["layer", "text", "ids", "tokens", "finished", "agrees"]
MEASURES = ["logprob_nats", "entropy_bits", "kl_to_final_bits", "final_token_rank", "surprise_bits", "candidates"]
LOADED = SimpleNamespace(name="tiny", device="cpu", dtype="float32", revision=None)


class NumberedPieces:
    """Stands for a tokenizer whose token n reads ` n`."""

    def of(self, ids):
        return [f" {token}" for token in ids]

    def text(self, ids):
        return "".join(self.of(ids))


def strict(text):
    """JSON as the standard has it: Python's own reader takes NaN and Infinity as well."""

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def document(mini, monkeypatch, capsys):
    """What the script prints with --json, read back; nothing else may be on stdout, nor anything on stderr after it."""
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: mini)

    def document(*argv):
        assert demo.main([*map(str, argv), "--json", "--quiet"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.isascii()
        assert out.endswith("\n")
        return strict(out)

    return document


def test_keys_and_where_the_numbers_come_from(document, mini, prompt_ids):
    found = document("--max-new-tokens", 3)
    assert list(found) == [*HEAD, "context", "settles_at", "rows"]
    assert found["schema"] == "layer-decoding/greedy/1"
    assert found["versions"] == {
        "program": layer_decoding.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "revision": None,
    }
    assert (found["model"], found["device"], found["dtype"]) == (mini.name, mini.device, mini.dtype)
    assert found["prompt"] == {"text": "A long long time ago,", "ids": prompt_ids}
    assert (found["layer_count"], found["max_new_tokens"], found["context"]) == (12, 3, "shared")
    assert [row["layer"] for row in found["rows"]] == list(range(1, 13))
    for row in found["rows"]:
        assert list(row) == [*ROW, *MEASURES]


@pytest.mark.parametrize("context", ["shared", "own"])
def test_the_document_is_the_decoding(document, mini, prompt_ids, context):
    found = document("--max-new-tokens", 4, "--context", context, "--layers", "0,6")
    decoding = decode_layers(mini.model, prompt_ids, 4, context=context, layers=[0, 6])
    assert found["settles_at"] == (list(decoding.settles_at) if context == "shared" else None)
    assert [row["layer"] for row in found["rows"]] == [0, 6, 12]
    pieces = Pieces(mini.tokenizer)
    for shown, row in zip(found["rows"], decoding.rows, strict=True):
        assert shown["ids"] == list(row.ids)
        assert shown["tokens"] == pieces.of(row.ids)
        assert shown["text"] == "".join(shown["tokens"])
        assert shown["agrees"] == [a == b for a, b in zip(row.ids, decoding.final_row.ids, strict=True)]
        assert len(shown["logprob_nats"]) == len(shown["entropy_bits"]) == len(shown["candidates"]) == len(row.ids)
        assert shown["logprob_nats"] == pytest.approx(row.logprob_nats, abs=1e-5)
        for token, logprob, step in zip(row.ids, shown["logprob_nats"], shown["candidates"], strict=True):
            assert len(step) == 5
            assert list(step[0]) == ["id", "token", "probability"]
            assert step[0]["id"] == token
            assert step[0]["token"] == pieces.of([token])[0]
            assert step[0]["probability"] == pytest.approx(math.exp(logprob), rel=1e-4)
        if context == "own":
            assert shown["kl_to_final_bits"] is shown["final_token_rank"] is None
        else:
            assert min(shown["kl_to_final_bits"]) >= 0
            assert [rank == 1 for rank in shown["final_token_rank"]] == shown["agrees"]
    if context == "shared":
        assert found["rows"][-1]["kl_to_final_bits"] == [0] * 4


def ending(context):
    """A tiny model's decoding that ends early, and the id that ends it."""
    model = random_gpt2(1)
    end = decode_layers(model, [5, 17], 12, context=context).final_row.ids[4]
    model.config.eos_token_id = model.generation_config.eos_token_id = end
    return decode_layers(model, [5, 17], 12, context=context), end


@pytest.mark.parametrize("context", ["shared", "own"])
def test_end_of_text(context):
    """`ids` and `tokens` hold the token that ended a row, every list is as long as `ids`."""
    decoding, end = ending(context)
    found = strict(to_json(greedy_document(decoding, "p", LOADED, NumberedPieces())))
    assert found["prompt"]["ids"] == [5, 17]
    final = found["rows"][-1]
    assert final["finished"]
    assert final["ids"][-1] == end
    assert len(final["ids"]) < 12
    for row in found["rows"]:
        assert row["tokens"] == [f" {token}" for token in row["ids"]]
        assert row["finished"] == (row["ids"][-1] == end)
        lists = [row[key] for key in [*ROW[2:4], "agrees", *MEASURES] if row[key] is not None]
        assert {len(values) for values in lists} == {len(row["ids"])}
        if context == "shared":
            assert len(row["ids"]) == len(found["settles_at"]) == len(final["ids"])
        else:
            assert end not in row["ids"][:-1]


def test_text_leaves_special_tokens_out(mini):
    end = mini.tokenizer.eos_token_id
    ids = (*mini.tokenizer.encode("The end"), end)
    decoding = LayerDecoding("shared", 1, (1,), 9, (LayerRow(1, ids, finished=True),), (1,) * len(ids))
    (row,) = greedy_document(decoding, "p", mini, Pieces(mini.tokenizer))["rows"]
    assert row["text"] == "The end"
    assert row["tokens"][-1] == "<|endoftext|>"
    assert row["ids"] == ids


def test_a_piece_completed_later_is_empty():
    decoding, prompt, pieces = goldens.stored("awkward")
    pieces.text = lambda ids: "".join(pieces.of(ids))
    final = greedy_document(decoding, prompt, LOADED, pieces)["rows"][-1]
    assert final["tokens"][:3] == [" caf", "", "é"]
    assert final["tokens"][5:8] == [" ", "👩", "\u200d👧"]


def test_what_is_not_finite_is_null():
    row = LayerRow(
        1,
        (4, 5),
        finished=False,
        logprob_nats=(-math.inf, -1.5),
        entropy_bits=(math.nan, 0.0),
        kl_to_final_bits=(math.inf, 2.0),
        final_token_rank=(1, 2),
        candidates=((Candidate(4, math.nan),), (Candidate(5, 0.25),)),
    )
    decoding = LayerDecoding("shared", 1, (1,), 2, (row,), (1, 1))
    (found,) = strict(to_json(greedy_document(decoding, "p", LOADED, NumberedPieces())))["rows"]
    assert found["logprob_nats"] == [None, -1.5]
    assert found["entropy_bits"] == [None, 0]
    assert found["kl_to_final_bits"] == [None, 2]
    assert [step[0]["probability"] for step in found["candidates"]] == [None, 0.25]


def test_what_was_not_measured_is_null():
    decoding = LayerDecoding("own", 1, (1,), 2, (LayerRow(1, (4, 5), finished=False),), None)
    found = strict(to_json(greedy_document(decoding, "p", LOADED, NumberedPieces())))
    assert found["settles_at"] is None
    assert [found["rows"][0][key] for key in MEASURES] == [None] * len(MEASURES)


def test_any_prompt_is_kept_as_it_is():
    decoding = replace(ending("shared")[0], prompt_ids=())
    prompt = 'a\x1b[31m\u202e\n"\\ 👩‍👧 \u2028'
    text = to_json(greedy_document(decoding, prompt, LOADED, NumberedPieces()))
    assert text.isascii()
    assert "\x1b" not in text
    assert strict(text)["prompt"]["text"] == prompt
