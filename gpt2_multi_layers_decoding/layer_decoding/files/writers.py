"""What a file of each format holds of every layer along a text."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from layer_decoding.files.documents import to_json
from layer_decoding.files.saving import Writers
from layer_decoding.files.tables import to_csv
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces

FORMATS = (".html", ".svg", ".csv", ".json")


def text_writers(
    decoding: Callable[[], LayerDecoding],
    prompt: str,
    document: Callable[[], dict[str, Any]],
    pieces: Pieces,
    whys: Callable[[], Sequence[Why]],
    others: Callable[[], Sequence[LayerDecoding]] = tuple,
) -> Writers:
    """The writers of a page, a table and a document; what they write is made when it is asked for.

    For the page alone: `whys` say why at each step of the decoding, none where that cannot be said; `others` are the
    same layers along the same text through other lenses.
    The document need not be of the decoding alone: a search holds more. Its head is what the page says of the run.
    """
    made = cache(document)

    def page() -> bytes:
        from layer_decoding.files.page.page import render_page  # its template engine takes a while to import

        beside = others()
        return render_page(decoding(), prompt, made(), pieces, () if beside else whys(), beside).encode()

    return {
        ".html": page,
        ".csv": lambda: to_csv(decoding(), pieces).encode(),
        ".json": lambda: f"{to_json(made())}\n".encode(),
    }
