"""Pages to test: decodings made up for them, and a reader of what stands in one."""

import json
import math
import random
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree.ElementTree import TreeBuilder

from goldens import StoredPieces
from layer_decoding.files.page.page import render_page
from layer_decoding.results.greedy import Candidate, LayerDecoding, LayerRow
from layer_decoding.results.why import Contribution, Why
from layer_decoding.terminal.pieces import alone, visible
from layer_decoding.terminal.theme import Terminal

HOSTILE = [
    *("<script>document.title = 'owned'</script>", "</script><script>document.title = 'owned'</script>", "<!--", "]]>"),
    *('"', "'", "&lt;", "<img src=x onerror=\"document.title='owned'\">", "</td></table>", "`${1}`", "{{ 7 * 7 }}"),
    *("\n", "\r\n", "\u2028", "\x00", "\u202eevil\u202c", " שלום", "\ufeff", "  ", " 你好", "👩\u200d👧", "-" * 60),
]
HEAD = {
    "versions": {"program": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "revision": None},
    "model": "models/<b>\u202e",
    "device": "cpu",
    "dtype": "float32",
}


def made_up(layer_count=12, steps=64, candidates=5, vocabulary=None, context="shared", seed=0):
    """A decoding out of dice, with every measure its context has; no two candidates alike unless there are too few."""
    dice = random.Random(seed)
    vocabulary = vocabulary or layer_count * steps * candidates
    ids = list(range(vocabulary)) * (1 + layer_count * steps * candidates // vocabulary)
    dice.shuffle(ids)
    rows = []
    for layer in range(1, layer_count + 1):
        length = steps if context == "shared" else dice.randint(1, steps)
        chosen = [tuple(Candidate(ids.pop(), dice.random() ** 4) for _ in range(candidates)) for _ in range(length)]
        shared = context == "shared"
        row = LayerRow(
            layer,
            tuple(step[0].id for step in chosen),
            finished=False,
            logprob_nats=tuple(math.log(step[0].probability + 1e-12) for step in chosen),
            entropy_bits=tuple(dice.uniform(0, 12) for _ in chosen),
            kl_to_final_bits=tuple(dice.expovariate(0.2) for _ in chosen) if shared else None,
            final_token_rank=tuple(int(dice.paretovariate(0.4)) for _ in chosen) if shared else None,
            surprise_bits=tuple(dice.uniform(0, 15) for _ in chosen) if shared else None,
            candidates=tuple(chosen),
        )
        rows.append(row)
    settles = tuple(dice.randint(1, layer_count) for _ in range(steps)) if context == "shared" else None
    return LayerDecoding(context, layer_count, (1, 2), steps, tuple(rows), settles)


def through_another(decoding, lens="linear", seed=1):
    """The same text through another lens, out of dice; the last layer is left alone."""
    ids = [token for row in decoding.rows for token in row.ids]
    other = made_up(decoding.layer_count, len(decoding.text_ids), 3, max(ids) + 1, seed=seed)
    rows = (*other.rows[:-1], decoding.final_row)
    return replace(other, rows=rows, text_ids=decoding.text_ids, lens=lens)


def two_lenses():
    """A page with a switch, of hostile tokens: (the two decodings, the page)."""
    first = made_up(5, 8, 3, len(HOSTILE))
    both = [first, through_another(first)]
    return both, render_page(first, "p", HEAD, pieces_of(HOSTILE), others=both[1:])


def made_up_whys(decoding, seed=0):
    """Why at each step of a decoding, out of dice."""
    dice, whys = random.Random(seed), []
    for step, token in enumerate(decoding.text_ids, 1):
        parts = [Contribution("embeddings", None, dice.gauss(0, 1))]
        for layer in range(1, decoding.layer_count + 1):
            parts += [Contribution(kind, layer, dice.gauss(0, 1)) for kind in ("attention", "mlp")]
        against = decoding.text_ids[step % len(decoding.text_ids)]
        total = math.fsum(part.logit for part in parts)
        written = decoding.text_ids[: step - 1]
        whys.append(Why(step, decoding.layer_count, (1,), written, token, against, total, tuple(parts)))
    return whys


def pieces_of(texts):
    """Pieces in which the id n stands for texts[n]."""
    return StoredPieces([text.encode() for text in texts])


def hostile_page(context="shared"):
    """A small decoding in which every token wants to be more than text."""
    decoding = made_up(5, 8, 3, len(HOSTILE), context)
    return decoding, render_page(decoding, "</p><script>document.title = 'owned'</script>", HEAD, pieces_of(HOSTILE))


def shown_alone(text):
    """How a token looks in a cell of its own."""
    return alone(visible(text, Terminal()))


# ---------------------------------------------------------------- reading a page


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tree = TreeBuilder()

    def handle_starttag(self, tag, attributes):
        self.tree.start(tag, {name: value or "" for name, value in attributes})
        if tag in ("meta", "link", "input"):
            self.tree.end(tag)

    def handle_endtag(self, tag):
        assert self.tree.end(tag).tag == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.tree.data(data)


def parsed(page):
    """The page's elements; every one closed in its turn."""
    reader = _Reader()
    reader.feed(page.removeprefix("<!DOCTYPE html>\n"))
    reader.close()
    return reader.tree.close()


def text_of(element):
    return "".join(element.itertext())


def by_id(root, name):
    (element,) = (element for element in root.iter() if element.get("id") == name)
    return element


def cells_of(root):
    """The table's cells [R][T]."""
    return [row.findall("td") for row in by_id(root, "layers").findall("tbody/tr")]


def token_and_number(cell):
    number = cell.find("small")
    return text_of(cell).removesuffix(number.text) if number is not None else text_of(cell), number


def data_of(root):
    return json.loads(by_id(root, "data").text)


def reading_of(root):
    """What the script is given of the lens that is shown first."""
    return data_of(root)["readings"][0]


def agrees_with(shown, value):
    """Whether a number as it is shown is the value, to half a unit of its last digit."""
    if shown in ("<0.01%", ">99.9%"):
        return 0 < value < 1e-4 if shown[0] == "<" else 0.999 < value < 1
    plain = shown.rstrip("%").replace(",", "")
    digits = len(plain.partition(".")[2])
    return abs(float(plain) - (100 * value if shown.endswith("%") else value)) <= 0.5000001 * 10**-digits


def words_on(root):
    """The words of the text in their order: (space and word, shade, number)."""
    (prompt, *words) = by_id(root, "text")
    spaces = [prompt.tail or "", *(word.tail or "" for word in words)]
    assert all(word.get("title") == f"{word.find('small').text} bits" for word in words)
    return [
        (space + word.text, int(word.get("class").removeprefix("s")), word.find("small").text)
        for space, word in zip(spaces, words, strict=False)
    ]
