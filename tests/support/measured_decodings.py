"""Measured decodings of every shape, for tests of what is written about them."""

import math

from hypothesis import strategies as st

import goldens
from layer_decoding.results.greedy import Candidate, LayerDecoding, LayerRow

TABLE = [
    token.encode("utf-8", "surrogateescape")
    for token in [
        *(
            " and",
            " the",
            ",",
            "\n",
            " ",
            "*",
            "你好",
            " 世界",
            "<|endoftext|>",
            " a-rather-long-token-of-many-letters",
        ),
        *(
            "\udce2",
            "\udc80",
            "\u200d",
            "👧",
            "a\u200d",
            "❤\ufe0f",
            "\ufe0f",
            "\u0301",
            "\x1b[31m",
            "\u202e",
            "🇫",
            "",
            "한",
        ),
    ]
]
PIECES = goldens.StoredPieces(TABLE)
TOKENS = st.integers(0, len(TABLE) - 1)
CHANCES = st.floats(1e-12, 1) | st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])


@st.composite
def measured(draw, given_text=False):
    """Small measured decodings of every shape, with some tokens tracked at every step."""
    context = draw(st.sampled_from(["shared", "own"]))
    layers = sorted(draw(st.sets(st.integers(0, 48), min_size=1, max_size=5)))
    length = draw(st.integers(1, 9))
    tracked = tuple(draw(st.lists(TOKENS, min_size=1, max_size=3)))
    rows = tuple(draw(_rows(context, layer, length, len(tracked))) for layer in layers)
    settles = tuple(draw(st.lists(st.integers(1, 12), min_size=length, max_size=length)))
    shared = context == "shared"
    text = tuple(draw(st.lists(TOKENS, min_size=length, max_size=length))) if shared and given_text else ()
    return LayerDecoding(context, layers[-1], (1,), 20, rows, settles if shared else None, tracked, text)


@st.composite
def _rows(draw, context, layer, length, tracked):
    shared = context == "shared"
    length = length if shared else draw(st.integers(1, length))

    def steps(values, count=length):
        return tuple(draw(st.lists(values, min_size=count, max_size=count)))

    ranks = st.integers(1, 50257)
    return LayerRow(
        layer,
        steps(TOKENS),
        finished=False,
        logprob_nats=tuple(map(math.log, steps(CHANCES))),
        entropy_bits=steps(st.floats(0, 15.7)),
        kl_to_final_bits=steps(st.floats(0, 99)) if shared else None,
        final_token_rank=steps(ranks) if shared else None,
        surprise_bits=steps(st.floats(0, 99)) if shared else None,
        candidates=tuple(steps(st.builds(Candidate, TOKENS, CHANCES), 3) for _ in range(length)),
        tracked_probabilities=tuple(steps(CHANCES, tracked) for _ in range(length)),
        tracked_ranks=tuple(steps(ranks, tracked) for _ in range(length)),
    )
