"""The check of a GPU against the CPU: that it sees a difference, and says so where there is no GPU."""

from dataclasses import replace

import pytest

import check_cuda
from check_cuda import differences
from layer_decoding import decode_layers
from refusals import assert_sentence


def test_without_a_gpu_it_says_so(capsys):
    assert check_cuda.main([]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert_sentence(said.err.strip(), "no GPU", "--device cpu --fast")


def test_a_difference_is_seen(tiny):
    decoding = decode_layers(tiny, [5, 17, 42, 8], 4)
    assert differences(decoding, decoding) == (0, 0, 0)
    first, *others = decoding.rows

    def changed(**fields):
        return differences(replace(decoding, rows=(replace(first, **fields), *others)), decoding)

    assert changed(ids=(0, *first.ids[1:])) == (1, 0, 0)
    texts, gap, moved = changed(entropy_bits=(first.entropy_bits[0] + 0.5, *first.entropy_bits[1:]))
    assert (texts, moved) == (0, 0)
    assert gap == pytest.approx(0.5)
    assert 0 < changed(final_token_rank=(99, *first.final_token_rank[1:]))[2] < 0.1
    assert changed(entropy_bits=None)[2] == 1
    assert changed(ids=first.ids[1:])[0] > 0


@pytest.mark.parametrize("other", [0.1, None])
def test_an_answer_that_is_another_is_told(tiny, monkeypatch, capsys, other):
    """Asked of a model first and of its copy second; the second answer is off where `other` is."""
    answered = []

    def asked(*_):
        answered.append(1)
        return 0.5 + (other if other and len(answered) == 2 else 0.0)

    monkeypatch.setattr(check_cuda, "answers", lambda *_: {"all": asked})
    lens = check_cuda.some_lens(tiny)
    assert check_cuda.check_answers("tiny", tiny, lens, "cpu", 2, 9) == (other is None)
    assert ("NOT the same" in capsys.readouterr().out) == (other is not None)
