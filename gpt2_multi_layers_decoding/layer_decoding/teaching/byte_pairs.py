"""Byte-pair encoding by hand (Sennrich et al., 2016): the merges that build a word, and how they are learnt.

A word is a row of symbols, at first its single characters (in GPT-2 its bytes, each written as a character). A merge
makes a pair of neighbours one symbol. Learning finds the merges, the most frequent pair first; encoding applies them
in the order in which they were learnt, which is their rank.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

Pair = tuple[str, str]


def merge(symbols: Sequence[str], pair: Pair) -> list[str]:
    """Symbols with a pair made one wherever it occurs, from the left.

    >>> merge(["a", "a", "a", "b"], ("a", "a"))
    ['aa', 'a', 'b']
    """
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def build(symbols: Sequence[str], ranks: Mapping[Pair, int]) -> Iterator[tuple[Pair, int, list[str]]]:
    """Encode one word: as long as a pair can merge, the one learnt first does. Each merge, its rank, the symbols then.

    >>> for step in build("lower", {("e", "r"): 2, ("l", "o"): 0, ("lo", "w"): 1}): print(*step)
    ('l', 'o') 0 ['lo', 'w', 'e', 'r']
    ('lo', 'w') 1 ['low', 'e', 'r']
    ('e', 'r') 2 ['low', 'er']
    """
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        pair = min(known, key=ranks.__getitem__)
        symbols = merge(symbols, pair)
        yield pair, ranks[pair], symbols


def encode(word: str, ranks: Mapping[Pair, int]) -> list[str]:
    """The symbols that a word has when no pair is left to merge.

    >>> encode("lower", {("e", "r"): 2, ("l", "o"): 0, ("lo", "w"): 1})
    ['low', 'er']
    """
    symbols = list(word)
    for *_, merged in build(symbols, ranks):
        symbols = merged
    return symbols


def learn(counts: Mapping[str, int]) -> Iterator[tuple[Pair, int, list[list[str]]]]:
    """Learn from words and how often each occurs, until all are whole: each merge, its count, the words then.

    The most frequent pair becomes a symbol; of equals the first met, reading from the left.

    >>> for step in learn({"cat": 1, "at": 2}): print(*step)
    ('a', 't') 3 [['c', 'at'], ['at']]
    ('c', 'at') 1 [['cat'], ['at']]
    """
    words = {word: list(word) for word in counts}
    while any(len(symbols) > 1 for symbols in words.values()):
        seen: Counter[Pair] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                seen[pair] += counts[word]
        pair = max(seen, key=seen.__getitem__)
        words = {word: merge(symbols, pair) for word, symbols in words.items()}
        yield pair, seen[pair], list(words.values())
