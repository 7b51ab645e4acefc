"""A greedy decoding as one HTML page that needs nothing else: no network, no framework, no font of its own.

The page is whole without its script: table, rows, legend. The script shows what lies behind a cell and switches
the measure; every number and shade it shows was written here, so that each is decided in one place.
Nothing from a model becomes markup, and a policy in the head lets no code and no style run but the page's own.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps

from layer_decoding.files.page_why import why_data
from layer_decoding.files.shading import SHADES, ShadedTable, shaded_tables
from layer_decoding.layers import in_files
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import long_percent
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, merge
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.rows import compare, notes, row_spans
from layer_decoding.views.why import HELD_FIXED

SCRIPTS = ("page.js", "page_why.js", "page_paper.js", "page_start.js")
SCREEN = Terminal()  # a page has every character, and wraps by itself


@dataclass(frozen=True)
class Column:
    """A step of the text, from 1, and the token it came to."""

    step: int
    token: str


@dataclass(frozen=True)
class Cell:
    """What one layer says at one step: its token, the space before it apart, and a measure's number."""

    space: str
    word: str
    number: str
    differs: bool
    classes: str


def render_page(
    decoding: LayerDecoding, prompt: str, head: dict[str, Any], pieces: Pieces, whys: Sequence[Why] = ()
) -> str:
    """The page as a string; `head` is what `document_head` returns, `whys` say why at each step, or are none."""
    names = _token_names(decoding, whys, pieces)
    measures = shaded_tables(decoding)
    style, script = _asset("page.css"), "".join(map(_asset, SCRIPTS))
    page = _template().render(
        decoding=decoding,
        prompt=_shown(prompt),
        text=_shown("".join(pieces.of(decoding.text_ids))),
        facts=_facts(decoding, head),
        short_name=_shown(head["model"].rstrip("/").rpartition("/")[2]),
        notes=[merge(note) for note in notes(decoding, SCREEN.glyphs)],
        columns=_columns(decoding, names),
        table=_cells(decoding, names, next(iter(measures.values()), None)),
        texts=[_text(row, decoding, pieces) for row in decoding.rows],
        measures=measures,
        shades=range(SHADES),
        held_fixed=HELD_FIXED if whys else "",
        data=htmlsafe_json_dumps(_data(decoding, names, measures, whys), separators=(",", ":")),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a lone surrogate, from a prompt that is not UTF-8


# ---------------------------------------------------------------- what the template and the script are given
def _shown(text: str) -> str:
    return shown(text, SCREEN)


def _text(row: LayerRow, decoding: LayerDecoding, pieces: Pieces) -> list[Span]:
    """A row as a text; the table above it tells its tokens apart."""
    return merge(replace(span, piece=False) for span in row_spans(row, decoding, pieces, SCREEN))


def _token_names(decoding: LayerDecoding, whys: Sequence[Why], pieces: Pieces) -> dict[int, str]:
    """Every token on the page, each read alone: a cell cannot borrow the bytes of its neighbour."""
    ids = set(chain.from_iterable(row.ids for row in decoding.rows))
    steps = chain.from_iterable(row.candidates or () for row in decoding.rows)
    ids.update(candidate.id for candidate in chain.from_iterable(steps))
    ids.update(token for why in whys for token in (why.token, why.against))
    return dict(zip(sorted(ids), token_texts(sorted(ids), pieces, SCREEN), strict=True))


def _facts(decoding: LayerDecoding, head: dict[str, Any]) -> dict[str, str]:
    """Where the numbers come from, for the page's head."""
    versions = {name: version for name, version in head["versions"].items() if version}
    facts = {
        "model": head["model"],
        "layers": decoding.layer_count,
        **({} if decoding.lens == "plain" else {"lens": decoding.lens}),
        "context": decoding.context,
        "tokens": f"{len(decoding.prompt_ids)} + {len(decoding.final_row.ids)}",
        "device": f"{head['device']}, {head['dtype']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: _shown(str(fact)) for name, fact in facts.items()}


def _columns(decoding: LayerDecoding, names: dict[int, str]) -> list[Column]:
    """The table's columns; in own context positions do not correspond, so no token stands over one."""
    steps = max((len(row.ids) for row in decoding.rows), default=0)
    ids = decoding.final_row.ids if decoding.context == "shared" else ()
    return [Column(step + 1, names[ids[step]] if step < len(ids) else "") for step in range(steps)]


def _cells(decoding: LayerDecoding, names: dict[int, str], measure: ShadedTable | None) -> list[list[Cell]]:
    """The table [R][T], shaded by a measure if there is one."""
    table = []
    for number, row in enumerate(decoding.rows):
        same, _ = compare(row, decoding)
        cells = []
        for step, token in enumerate(row.ids):
            word = names[token].lstrip(" ")
            space = names[token].removesuffix(word)
            shade, text = (f"s{measure.levels[number][step]}", measure.texts[number][step]) if measure else ("", "")
            classes = [shade] * bool(shade) + ["settles"] * _settles_here(row, step, decoding)
            cells.append(Cell(space, word, text, not same[step], " ".join(classes)))
        table.append(cells)
    return table


def _settles_here(row: LayerRow, step: int, decoding: LayerDecoding) -> bool:
    """Whether this is the first row shown from which on the token no longer changes."""
    if decoding.settles_at is None:
        return False
    return row.layer == min(other.layer for other in decoding.rows if other.layer >= decoding.settles_at[step])


def _data(
    decoding: LayerDecoding, names: dict[int, str], measures: dict[str, ShadedTable], whys: Sequence[Why]
) -> dict[str, Any]:
    """What the script shows: tokens by their place in one list, numbers as they are written."""
    place = {token: index for index, token in enumerate(names)}
    return {
        "last": decoding.layer_count,
        "context": decoding.context,
        "layers": [in_files(row.layer) for row in decoding.rows],
        "names": list(names.values()),
        "tokens": [[place[token] for token in row.ids] for row in decoding.rows],
        "measures": {
            key: {**vars(measure), "levels": ["".join(map(str, row)) for row in measure.levels]}
            for key, measure in measures.items()
        },
        "candidates": [
            [[[place[c.id], long_percent(c.probability)] for c in step] for step in row.candidates or ()]
            for row in decoding.rows
        ],
        "why": why_data(whys, place),
    }


# ---------------------------------------------------------------- the files beside this one
def _asset(name: str) -> str:
    return (files("layer_decoding.files") / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2"))


def _hash(code: str) -> str:
    """The source expression that lets one inline style or script through a Content-Security-Policy (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
