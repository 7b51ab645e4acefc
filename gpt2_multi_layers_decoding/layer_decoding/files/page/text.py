"""The text of a page, shaded by how surprising each of its tokens was to a layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from layer_decoding.files.page.shading import SHADES, written
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import BY_OPTION, shades_of
from layer_decoding.terminal.hidden import whole_emoji
from layer_decoding.terminal.pieces import Pieces, shown
from layer_decoding.terminal.theme import Terminal

SURPRISE = BY_OPTION["surprise"]


@dataclass(frozen=True)
class Word:
    """What is shaded together: a token, or those that make up one character; the space before it apart."""

    space: str
    word: str
    steps: range  # counted from 0


def words_of(decoding: LayerDecoding, pieces: Pieces, screen: Terminal) -> list[Word]:
    """The text in its order; nothing where no layer's surprise at it is known: in own context, or not measured."""
    if not SURPRISE.is_in(decoding):
        return []
    texts, words, first = pieces.of(decoding.text_ids), [], 0
    for step, whole in enumerate(whole_emoji(texts)):
        if whole:
            text = shown(whole, screen)
            word = text.lstrip(" ") or text
            words.append(Word(text.removesuffix(word), word, range(first, step + 1)))
            first = step + 1
    return words


def word_data(
    decoding: LayerDecoding, together: Sequence[LayerDecoding], words: Sequence[Word]
) -> dict[str, Any] | None:
    """For each layer the shade of each word, the darkest of its tokens', and the number of each of these.

    A layer's shades reach as far as its own numbers, in the decodings that are on a page together. None without words.
    """
    if not words:
        return None
    texts, levels, highs = [], [], []
    for number, row in enumerate(decoding.rows):
        values = SURPRISE.values(row)
        shades = shades_of(SURPRISE, [each.rows[number] for each in together], SHADES)
        texts.append([", ".join(written(SURPRISE, values[step]) for step in word.steps) for word in words])
        levels.append("".join(str(max(shades.level(values[step]) for step in word.steps)) for word in words))
        highs.append(SURPRISE.long(shades.high))
    return {"texts": texts, "levels": levels, "highs": highs}
