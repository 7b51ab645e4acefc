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
from typing import TYPE_CHECKING, NamedTuple

from layer_decoding.cli.options import Parser, add_device, add_screen_options
from layer_decoding.cli.running import notice, run
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


def block(x: "Tensor", m: "Tensor", w_1: "Tensor", w_2: "Tensor", step: Steps) -> "tuple[Tensor, Tensor, Tensor]":
    """Words as rows of one 1, x [P, V], all different: the earlier ones' scores, the pairs found, the votes."""
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
    return scores, hidden, votes


class Found(NamedTuple):
    """What the block finds at a place: each earlier word's score, the pairs whose unit is not 0, votes by word."""

    scores: list[float]
    pairs: list[Feature]
    votes: Votes
    steps: list[tuple[str, str, str]]


def run_block(so_far: Words, pairs: Table, kept: Collection[Feature], device: str = "cpu") -> Found:
    """The block on words."""
    import torch

    V = len(VOCABULARY)
    step = Steps(P=len(so_far), V=V, N=len(pairs), **{"P-1": len(so_far) - 1, "2V": 2 * V})
    with torch.device(device):
        x = torch.eye(V)[[VOCABULARY.index(word) for word in so_far]]
        scores, hidden, votes = (row.tolist() for row in block(x, *matrices_of(pairs, kept), step))
    found = [pair for pair, unit in zip(pairs, hidden, strict=True) if unit]
    return Found(scores, found, {word: n for word, n in zip(VOCABULARY, votes, strict=True) if n}, step.take())


def difference(pairs: Table, kept: Collection[Feature], device: str = "cpu") -> float:
    """The most that a vote of the block is from the counted one, at any place of both sentences."""
    gaps = [0.0]
    for so_far, _ in beginnings(TEXTS):
        counted, ours = vote(pairs_of(so_far), pairs, kept), run_block(so_far, pairs, kept, device).votes
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
    from layer_decoding.models.devices import pick_device

    device, reason = pick_device(args.device)
    notice(args, f"Running on {device} ({reason}).")
    page = Page(terminal_of(sys.stdout, args.color, args.width))
    pairs, kept = transitions(TEXTS, pairs_of), telling(TEXTS)
    for sentence in SENTENCES:
        page.say(sentence)
    show_counting(page, pairs, kept)
    show_block(page, pairs, kept, device)
    page.heading("The proof: all places in both sentences, with the mask and without")
    page.lines.append(proof("counting", max(difference(pairs, each, device) for each in (kept, pairs)), 0))
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


def show_block(page: Page, pairs: Table, kept: Collection[Feature], device: str) -> None:
    """Every step of the block, what it finds at the two hard places, and what it would find without the mask."""
    page.heading("4 The same as matrices: the two halves of a block")
    page.say(
        f"m has a row for the newest word, a column for an earlier one, and {len(kept)} ones: the pairs that tell. "
        f"Each of the N = {len(pairs)} units of the ReLU layer is a pair: 1 if both its words are there (1 + 1 - 1), "
        "otherwise 0; its row of w_2 is what came next after it."
    )
    page.steps(run_block(HARD[0], pairs, kept, device).steps)
    for words in HARD:
        found = run_block(words, pairs, kept, device)
        page.table([("word", *words[:-1]), ("score", *(f"{score:g}" for score in found.scores))])
        page.say(reading(words, found, kept, len(pairs)))
    found = run_block(HARD[0], pairs, pairs, device)
    page.say(
        f"Without the mask, all {len(pairs)} pairs in m, {len(answers(HARD[0], found))} of the {len(found.scores)} "
        f"words would answer in the first sentence, {len(found.pairs)} units would be 1, and the votes "
        f"{told(found.votes)}: those of part 2. The mask alone makes the difference; the units are the same."
    )
    page.say(
        "The first half is attention: m is what the newest word asks for, and the earlier ones answer to. The second "
        "is the MLP. GPT-2 learns both; it has w_q @ w_k.T for m, and a softmax to make scores shares of 1."
    )


def answers(words: Words, found: Found) -> list[str]:
    """The earlier words that have a score."""
    return [word for word, score in zip(words, found.scores, strict=False) if score]


def reading(words: Words, found: Found, kept: Collection[Feature], count: int) -> str:
    """What the numbers of the block say at a place, in words."""
    last, taken = words[-1], answers(words, found)
    asked = [earlier for earlier, newest_word in kept if newest_word == last]
    return (
        f'Row "{last}" of m asks for {" and ".join(asked)}; of the {len(found.scores)} words before it {len(taken)} '
        f"answers: {', '.join(taken)}. So the stream is {last} and {', '.join(taken)}, and {len(found.pairs)} of the "
        f"{count} units is not 0: {'; '.join(map(', '.join, found.pairs))}. Votes: {told(found.votes)}."
    )


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    add_device(parser.add_argument_group("where"))
    add_screen_options(parser.add_argument_group("output"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
