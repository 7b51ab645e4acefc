"""The smallest model that needs attention: two sentences, counted first, then as the two halves of a block.

What comes after "ran" is decided by a word far back, "program" or "battery". Pairs of the newest word and any
earlier one (second order, with skips) find it, but all the other pairs vote too. A mask that keeps the pairs that
tell is what attention is; making pairs of what was kept is what the MLP does. The counting is in
layer_decoding/word_votes.py.

The idea, and the road from counting words to attention, are Brandon Rohrer's ("Transformers from Scratch", 2021).

    V words in the vocabulary   P words so far   N pairs

    python skip_model_demo.py
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
from argparse import Namespace
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from layer_decoding.cli.options import Parser, add_screen_options
from layer_decoding.cli.running import run
from layer_decoding.teaching.lesson import Steps, proof
from layer_decoding.teaching.page import Page
from layer_decoding.teaching.word_votes import (
    Feature,
    Table,
    Votes,
    Words,
    beginnings,
    newest,
    pairs_of,
    telling,
    transitions,
    vote,
)
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from torch import Tensor

SENTENCES = (
    "Check the program log and find out whether it ran please.",
    "Check the battery log and find out whether it ran down please.",
)
TEXTS: list[Words] = [sentence.lower().rstrip(".").split() for sentence in SENTENCES]
VOCABULARY = sorted({word for words in TEXTS for word in words})
HARD = [words[: words.index("ran") + 1] for words in TEXTS]  # the two places at which it is hard to go on
PURPOSE = "The smallest model that needs attention: counted, then as matrices."
EXAMPLES = "python skip_model_demo.py"


def matrices_of(pairs: Table, kept: Collection[Feature]) -> "tuple[Tensor, Tensor, Tensor]":
    """m [V, V]: 1 where a pair is kept. w_1 [2V, N]: a column of two ones a pair. w_2 [N, V]: its votes."""
    import torch

    V, N, place = len(VOCABULARY), len(pairs), VOCABULARY.index
    m, w_1, w_2 = torch.zeros(V, V), torch.zeros(2 * V, N), torch.zeros(N, V)
    for earlier, last in kept:
        m[place(last), place(earlier)] = 1
    for unit, ((earlier, last), votes) in enumerate(pairs.items()):
        w_1[place(last), unit] = w_1[V + place(earlier), unit] = 1
        for word, share in votes.items():
            w_2[unit, place(word)] = share
    return m, w_1, w_2


def block(x: "Tensor", m: "Tensor", w_1: "Tensor", w_2: "Tensor", step: Steps) -> "tuple[Tensor, Tensor]":
    """Words as rows of one 1, x [P, V], all different: the scores of the earlier ones and the votes for the next."""
    import torch

    step("x = the words, a 1 in each row", x, "P V")
    scores = x[-1] @ m @ x[:-1].T
    step("scores = x[-1] @ m @ x[:-1].T", scores, "P-1")
    taken = scores @ x[:-1]
    step("taken = scores @ x[:-1]", taken, "V")
    stream = torch.cat([x[-1], taken])
    step("stream = x[-1], and in places of its own taken", stream, "2V")
    hidden = (stream @ w_1 - 1).relu()
    step("hidden = relu(stream @ w_1 - 1)", hidden, "N")
    votes = hidden @ w_2
    step("votes = hidden @ w_2", votes, "V")
    return scores, votes


def run_block(so_far: Words, pairs: Table, kept: Collection[Feature]) -> "tuple[Tensor, Votes, Steps]":
    """The block on words: scores [P - 1], votes by word, and its steps."""
    import torch

    V = len(VOCABULARY)
    step = Steps(P=len(so_far), V=V, N=len(pairs), **{"P-1": len(so_far) - 1, "2V": 2 * V})
    x = torch.eye(V)[[VOCABULARY.index(word) for word in so_far]]
    scores, votes = block(x, *matrices_of(pairs, kept), step)
    return scores, {word: n for word, n in zip(VOCABULARY, votes.tolist(), strict=True) if n}, step


def difference(pairs: Table, kept: Collection[Feature]) -> float:
    """The most that a vote of the block is from the counted one, at any place of both sentences."""
    gaps = [0.0]
    for so_far, _ in beginnings(TEXTS):
        counted, (_, ours, _) = vote(pairs_of(so_far), pairs, kept), run_block(so_far, pairs, kept)
        gaps += [abs(ours.get(word, 0) - counted.get(word, 0)) for word in VOCABULARY]
    return max(gaps)


def told(votes: Votes) -> str:
    """Votes for the words that follow at the hard places, most first.

    >>> told({"down": 4.0, "please": 5.0})
    'please 5, down 4'
    """
    both = {"please": 0.0, "down": 0.0} | votes
    return ", ".join(f"{word} {n:g}" for word, n in sorted(both.items(), key=lambda item: -item[1]))


def show(args: Namespace) -> None:
    """Count, mask, do the same with matrices; compare; print."""
    page = Page(terminal_of(sys.stdout, args.color, args.width))
    pairs, kept = transitions(TEXTS, pairs_of), telling(TEXTS)
    for sentence in SENTENCES:
        page.say(sentence)
    show_counting(page, pairs, kept)
    show_block(page, pairs, kept)
    page.heading("The proof: all places in both sentences, with the mask and without")
    page.lines.append(proof("counting", max(difference(pairs, kept), difference(pairs, pairs)), 0))
    print("\n".join(page.lines))


def show_counting(page: Page, pairs: Table, kept: Collection[Feature]) -> None:
    """The newest words alone, all pairs, and the pairs that tell."""
    dots, V, words = page.terminal.glyphs.dots, len(VOCABULARY), HARD[0]
    page.heading("1 The newest words alone")
    orders = {order: transitions(TEXTS, newest(order))[tuple(words[-order:])] for order in range(1, len(words))}
    enough = min(order for order, votes in orders.items() if len(votes) == 1)
    page.say(f"After the newest {enough - 1} words the votes are {told(orders[enough - 1])}; after {enough}:")
    page.say(f"{dots}{' '.join(words[-enough:])}: {told(orders[enough])}.")
    page.say(f"But {V} words make {V}**{enough} = {V**enough:,} runs of {enough}, and only {V}**2 = {V**2} pairs.")

    page.heading("2 Pairs: the newest word with each earlier one")
    page.say('How often each word came next in the two sentences, after each pair that ends in "ran":')
    rows = [(pair, votes) for pair, votes in pairs.items() if pair[1] == "ran"]
    cells = [(", ".join(pair), *(f"{votes.get(word, 0):g}" for word in ("please", "down"))) for pair, votes in rows]
    page.table([("pair", "please", "down"), *cells], numbers=True)
    page.say(f"{' '.join(words)}{dots}: {len(words) - 1} pairs vote {told(vote(pairs_of(words), pairs, pairs))}.")

    page.heading("3 The mask: only the pairs that tell")
    page.say(
        f"The others vote as their newest word alone does. Left: {' and '.join(', '.join(pair) for pair in kept)}."
    )
    for words in HARD:
        page.say(f"{' '.join(words)}{dots}: {told(vote(pairs_of(words), pairs, kept))}.")


def show_block(page: Page, pairs: Table, kept: Collection[Feature]) -> None:
    """Every step of the block, and what it makes of the two hard places."""
    page.heading("4 The same as matrices: the two halves of a block")
    page.say(
        f"m has a row for the newest word, a column for an earlier one, and {len(kept)} ones: the pairs that tell. "
        "Each of the N units of the ReLU layer is a pair: 1 + 1 - 1 if both words are there, otherwise 0."
    )
    page.steps(run_block(HARD[0], pairs, kept)[2].rows)
    for words in HARD:
        scores, votes, _ = run_block(words, pairs, kept)
        page.table([("word", *words[:-1]), ("score", *(f"{score:g}" for score in scores.tolist()))])
        page.say(f"votes: {told(votes)}")
    page.say(
        "The first half is attention: m is what the newest word asks for, and the earlier ones answer to. The second "
        "is the MLP. GPT-2 learns both; it has w_q @ w_k.T for m, and a softmax to make scores shares of 1."
    )


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    add_screen_options(parser.add_argument_group("output"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
