"""Counting what comes next in a few texts: each feature of the words so far votes, with the shares it was followed by.

A feature is what a model looks at: the newest words (a Markov model), or a pair of an earlier word and the newest, no
matter how many words were skipped between them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

Words = Sequence[str]
Feature = tuple[str, ...]
Votes = dict[str, float]  # for each word that could come next
Table = dict[Feature, Votes]


def newest(order: int) -> Callable[[Words], list[Feature]]:
    """The one feature of a Markov model: the newest `order` words.

    >>> newest(2)(["whether", "it", "ran"])
    [('it', 'ran')]
    """
    return lambda so_far: [tuple(so_far[-order:])]


def pairs_of(so_far: Words) -> list[Feature]:
    """The P - 1 features of second order with skips: each earlier word with the newest.

    >>> pairs_of(["whether", "it", "ran"])
    [('whether', 'ran'), ('it', 'ran')]
    """
    return [(earlier, so_far[-1]) for earlier in so_far[:-1]]


def beginnings(texts: Sequence[Words]) -> Iterator[tuple[Words, str]]:
    """Every place in the texts: the words so far, at least one, and the word that follows."""
    for words in texts:
        for at in range(1, len(words)):
            yield words[:at], words[at]


def transitions(texts: Sequence[Words], features: Callable[[Words], list[Feature]]) -> Table:
    """How often each word came next after each feature, as shares: the votes of a row add up to 1.

    >>> transitions([["it", "ran"], ["it", "fell"]], newest(1))
    {('it',): {'ran': 0.5, 'fell': 0.5}}
    """
    counts: dict[Feature, Counter[str]] = defaultdict(Counter)
    for so_far, following in beginnings(texts):
        for feature in features(so_far):
            counts[feature][following] += 1
    return {key: {word: n / row.total() for word, n in row.items()} for key, row in counts.items()}


def vote(features: Sequence[Feature], table: Table, kept: Collection[Feature]) -> Votes:
    """The votes of those features that are kept, added up.

    >>> vote([("a",), ("b",)], {("a",): {"x": 1.0}, ("b",): {"x": 0.5, "y": 0.5}}, [("a",), ("b",)])
    {'x': 1.5, 'y': 0.5}
    """
    total: Votes = {}
    for feature in features:
        if feature in kept:
            for word, share in table[feature].items():
                total[word] = total.get(word, 0) + share
    return total


def telling(texts: Sequence[Words]) -> list[Feature]:
    """The informative pairs: those whose votes are not just the votes of their newest word.

    >>> telling([["my", "cat", "sits", "down"], ["my", "dog", "sits", "up"]])
    [('cat', 'sits'), ('dog', 'sits')]
    """
    alone = transitions(texts, newest(1))
    return [pair for pair, votes in transitions(texts, pairs_of).items() if votes != alone[pair[1:]]]
