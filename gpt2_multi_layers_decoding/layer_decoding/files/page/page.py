"""A greedy decoding as one HTML page that needs nothing else: no network, no framework, no font of its own.

The page is whole without its script: table, rows, legend. The script shows what lies behind a cell and why its column
has its token, and switches the measure, and the lens where there are several; every number and shade that it shows was
written here, so that each is decided in one place.
Nothing from a model becomes markup, and a policy in the head lets no code and no style run but the page's own.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from jinja2.utils import htmlsafe_json_dumps

from layer_decoding.files.page.readings import Names, Parting, Reading, parting, reading, token_ids
from layer_decoding.files.page.shading import SHADES
from layer_decoding.files.page.text import words_of
from layer_decoding.files.page.why import why_data
from layer_decoding.layers import PLAIN_LENS, in_files
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.why import Why
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.why import HELD_FIXED

SCRIPTS = ("table.js", "switch.js", "why.js", "text.js", "paper.js", "start.js")  # one after the other
SCREEN = Terminal()  # a page has every character, and wraps by itself


@dataclass(frozen=True)
class Column:
    """A step of the text, from 1, and its token."""

    step: int
    token: str


def render_page(
    decoding: LayerDecoding,
    prompt: str,
    head: dict[str, Any],
    pieces: Pieces,
    whys: Sequence[Why] = (),
    others: Sequence[LayerDecoding] = (),
) -> str:
    """The page as a string.

    `head` is what `document_head` returns; `whys` say why at each step, or are none; `others` are the same layers along
    the same text through other lenses, each with its place in a switch.
    """
    decodings = [decoding, *others]
    names = _token_names(decodings, whys, pieces)
    words = words_of(decoding, pieces, SCREEN)
    readings = [reading(each, decodings, words, names, pieces, SCREEN) for each in decodings]
    parted = parting(decodings, SCREEN.glyphs) if others else None
    style, script = _asset("page.css"), "".join(map(_asset, SCRIPTS))
    page = _template().render(
        decoding=decoding,
        prompt=_shown(prompt),
        text=_shown("".join(pieces.of(decoding.text_ids))),
        words=words,
        facts=_facts(decodings, head),
        short_name=_shown(head["model"].rstrip("/").rpartition("/")[2]),
        columns=_columns(decoding, names),
        readings=readings,
        parted=parted,
        measures=readings[0].measures,
        shades=range(SHADES),
        held_fixed=HELD_FIXED if whys else "",
        data=htmlsafe_json_dumps(_data(decoding, names, readings, parted, whys), separators=(",", ":")),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    return page.encode("utf-8", "backslashreplace").decode()  # a lone surrogate, from a prompt that is not UTF-8


# ---------------------------------------------------------------- what the template and the script are given
def _shown(text: str) -> str:
    return shown(text, SCREEN)


def _token_names(decodings: Sequence[LayerDecoding], whys: Sequence[Why], pieces: Pieces) -> dict[int, str]:
    """Every token on the page, each read alone: a cell cannot borrow the bytes of its neighbour."""
    ids = sorted(token_ids(decodings) | {token for why in whys for token in (why.token, why.against)})
    return dict(zip(ids, token_texts(ids, pieces, SCREEN), strict=True))


def _facts(decodings: Sequence[LayerDecoding], head: dict[str, Any]) -> dict[str, str]:
    """Where the numbers come from, for the page's head."""
    versions = {name: version for name, version in head["versions"].items() if version}
    decoding, lenses = decodings[0], ", ".join(each.lens for each in decodings)
    facts = {
        "model": head["model"],
        "layers": decoding.layer_count,
        **({} if lenses == PLAIN_LENS else {"lens" if len(decodings) == 1 else "lenses": lenses}),
        "context": decoding.context,
        "tokens": f"{len(decoding.prompt_ids)} + {len(decoding.final_row.ids)}",
        "device": f"{head['device']}, {head['dtype']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: _shown(str(fact)) for name, fact in facts.items()}


def _columns(decoding: LayerDecoding, names: Names) -> list[Column]:
    """The table's columns; in own context positions do not correspond, so no token stands over one."""
    steps = max((len(row.ids) for row in decoding.rows), default=0)
    ids = decoding.text_ids if decoding.context == "shared" else ()
    return [Column(step + 1, names[ids[step]] if step < len(ids) else "") for step in range(steps)]


def _data(
    decoding: LayerDecoding, names: Names, readings: Sequence[Reading], parted: Parting | None, whys: Sequence[Why]
) -> dict[str, Any]:
    """What the script shows."""
    place = {token: index for index, token in enumerate(names)}
    return {
        "last": decoding.layer_count,
        "context": decoding.context,
        "layers": [in_files(row.layer) for row in decoding.rows],
        "names": list(names.values()),
        "readings": [reading.data for reading in readings],
        "parted": parted and {"meaning": parted.meaning, "cells": parted.cells},
        "why": why_data(whys, place),
    }


# ---------------------------------------------------------------- the files beside this one
def _asset(name: str) -> str:
    return (files("layer_decoding.files.page") / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2"))


def _hash(code: str) -> str:
    """The source expression that lets one inline style or script through a Content-Security-Policy (CSP level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
