"""A reader of drawn terminals: what stands in which cell, in the last frame or in any."""

import re
from xml.etree import ElementTree

from wcwidth import width

CELL, LINE, BASELINE = 12, 24, 18
SVG = "{http://www.w3.org/2000/svg}"


def frames_in(svg):
    """How many frames a picture has."""
    return 1 + max(map(int, re.findall(rb"^\.from(\d+){", svg, re.MULTILINE)), default=0)


def lines_drawn(svg, frame=None):
    """The lines of a frame, of the last one if none is named; no sign stands where another does."""
    root = ElementTree.fromstring(svg)
    signs = {}
    for text in root.iter(f"{SVG}text"):
        for span in text.iter(f"{SVG}tspan"):
            start, end = shown_from_to(span)
            if end is None if frame is None else start <= frame and (end is None or frame < end):
                row, left = divmod(int(text.get("y")) - BASELINE, LINE)
                column, over = divmod(int(span.get("x")), CELL)
                assert (left, over) == (0, 0)
                assert int(span.get("textLength")) == CELL * width(span.text)
                signs.setdefault(row, []).append((column, span.text))
    return [line_of(sorted(signs.get(row, []))) for row in range(max(signs) + 1)]


def shown_from_to(span):
    """The frames in which a span is shown: the first, and the one after the last, None if it stays."""
    names = span.get("class") or ""
    if passing := re.search(r"\bgone at(\d+)-(\d+)$", names):
        return int(passing[1]), int(passing[2])
    staying = re.search(r"\bfrom(\d+)$", names)
    return int(staying[1]) if staying else 0, None


def line_of(parts):
    """Texts in their columns as one."""
    line = ""
    for column, text in parts:
        assert width(line) <= column, (line, text)
        line += " " * (column - width(line)) + text
    return line
