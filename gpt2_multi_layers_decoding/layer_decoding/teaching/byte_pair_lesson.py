"""Byte-pair encoding on a page, each time with the proof that the real thing comes to the same.

A text is built by the merges of a tokenizer and compared with its ids; merges learnt from a few words are given to the
tokenizers library, which has to cut words the same way.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from layer_decoding.errors import LayerDecodingError
from layer_decoding.teaching.byte_pairs import Pair, build, encode, learn
from layer_decoding.teaching.lesson import token_labels
from layer_decoding.teaching.page import Page
from layer_decoding.terminal.pieces import Pieces

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel


def ranks_of(loaded: "LoadedModel") -> dict[Pair, int]:
    """The merges of a model's tokenizer, counted from 1 in the order in which they were learnt.

    Raises:
        LayerDecodingError: it is not a byte-level BPE tokenizer.
    """
    tokenizer: Any = loaded.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)  # none where it is written in Python
    model: dict[str, Any] = {"type": None} if backend is None else json.loads(backend.to_str())["model"]
    if model["type"] != "BPE" or not Pieces(tokenizer).byte_level:
        raise LayerDecodingError(
            f"The tokenizer of {loaded.name} is not byte-level BPE as GPT-2's is; give a GPT-2, such as --model mini."
        )
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {(left, right): rank for rank, (left, right) in enumerate(pairs, 1)}


def show_building(page: Page, text: str, loaded: "LoadedModel") -> None:
    """The merges that build each word of a text, and that the tokenizer's own ids come out.

    Raises:
        LayerDecodingError: they do not, or the tokenizer is not a byte-level BPE one.
    """
    tokenizer: Any = loaded.tokenizer
    pieces, ranks = Pieces(tokenizer), ranks_of(loaded)

    def said(symbols: Sequence[str]) -> str:
        return " ".join(token_labels(pieces, tokenizer.convert_tokens_to_ids(list(symbols)), page.terminal))

    page.say("A text is first cut into words, each with the space before it.")
    page.say(f"Of all neighbours that are among the {len(ranks):,} merges, the pair learnt first merges; then again.")
    ids: list[int] = []
    for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text):
        steps = [(f"{rank:,}", said(pair), said(symbols)) for pair, rank, symbols in build(word, ranks)]
        page.heading(said(word).replace(" ", ""))
        page.listing([("learnt", "merge", "word so far"), ("", "", said(word)), *steps])
        ids += tokenizer.convert_tokens_to_ids(encode(word, ranks))
    own = tokenizer.encode(text, add_special_tokens=False)
    if ids != own:
        raise LayerDecodingError(
            f"The merges lead to the ids {ids}, but the tokenizer of {loaded.name} says {own}: the text holds a "
            "special token, which no merge builds, or the tokenizer changes texts first; try another word."
        )
    page.heading(f"ids {' '.join(map(str, ids))}: the same as the tokenizer's own")


def show_learning(page: Page, counts: Mapping[str, int], unseen: Sequence[str]) -> None:
    """Learning from a few counted words; what was learnt, on words that were not among them.

    Raises:
        LayerDecodingError: the tokenizers library cuts any of the words in another way.
    """
    steps = list(learn(counts))
    page.heading("Learning merges from " + ", ".join(f"{word} {count}" for word, count in counts.items()))
    page.say(
        "The most frequent pair becomes one symbol. Of equally frequent pairs it is the one met first from the left."
    )
    table = [("merge", "count", "words so far"), ("", "", " | ".join(map(" ".join, counts)))]
    table += [(" ".join(pair), str(count), " | ".join(map(" ".join, words))) for pair, count, words in steps]
    page.listing(table)
    ranks = {pair: rank for rank, (pair, *_) in enumerate(steps)}
    ours = {word: encode(word, ranks) for word in (*counts, *unseen)}
    theirs = cut_by_library(ranks, list(ours))
    if ours != theirs:
        raise LayerDecodingError(f"By hand the words are {ours}, by the tokenizers library {theirs}; they must agree.")
    page.say("Words it has not seen: " + ", ".join(f"{word} is {' '.join(ours[word])}" for word in unseen) + ".")
    page.say(
        "GPT-2 starts from the 256 bytes, not letters, and learnt 50,000 merges: with <|endoftext|> 50,257 tokens."
    )
    page.heading("The tokenizers library, given these merges, cuts all of these words the same way")


def cut_by_library(ranks: Mapping[Pair, int], words: Sequence[str]) -> dict[str, list[str]]:
    """The symbols of each word by the tokenizers library, given the merges in their order."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE

    symbols = dict.fromkeys([*"".join(words), *map("".join, ranks)])
    library = Tokenizer(BPE({symbol: i for i, symbol in enumerate(symbols)}, list(ranks)))
    return {word: library.encode(word).tokens for word in words}
