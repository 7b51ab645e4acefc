"""The text that is looked at, the list of branches, and two of them side by side, as lines."""

from dataclasses import replace
from itertools import zip_longest

from layer_decoding.exploring.board import Board
from layer_decoding.exploring.texts import Branch
from layer_decoding.terminal.columns import Line, fitted
from layer_decoding.terminal.pieces import Pieces, shown
from layer_decoding.terminal.spans import Span, shorten, shorten_left, token_spans, wrap
from layer_decoding.terminal.theme import Terminal

_BEFORE_CURSOR = 0.75  # of what is shown of a long text


def text_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int, most: int) -> list[Line]:
    """The prompt and what is written, in at most so many lines, those around the cursor if there are more.

    What the last layer would not have written is painted as such.
    """
    branch, room = board.texts.branch, most * cells
    same = [step.is_greedy for step in branch.steps[:-1]]
    spans = token_spans(pieces.of(branch.ids), same, terminal)
    if board.step <= len(spans):
        spans[board.step - 1] = replace(spans[board.step - 1], role="cursor")
    first = max(0, board.step - 1 - room)  # what is further away than a token a cell is not seen anyway
    near = spans[first : board.step - 1 + room]
    prompt = shown(board.prompt, terminal)
    before = [] if first else [Span(shorten_left(prompt, room, terminal.glyphs.dots), "note")]
    lines = wrap([*before, *near], cells, terminal.theme)
    at = next((n for n, line in enumerate(lines) if any(span.role == "cursor" for span in line)), len(lines) - 1)
    start = max(0, min(at - int(_BEFORE_CURSOR * (most - 1)), len(lines) - most))
    return list(lines[start : start + most])


def branch_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int, most: int | None = None) -> list[Line]:
    """A line a branch: its log-probability, where it parts, how it goes on. Of more than `most`, those around this."""
    texts = board.texts
    if len(texts.branches) == 1:
        return []
    lines: list[Line] = []
    for number, branch in enumerate(texts.branches):
        is_this = number == texts.number
        parting = texts.parts_from(number)
        where, step = (
            ("the first", 1) if parting is None else (f"parts from {parting[0] + 1} at step {parting[1]}", parting[1])
        )
        head = f"{'>' if is_this else ' '}{number + 1:>2} {branch.sums_nats[-1]:>8.2f} nats, {where}: "
        rest = shown("".join(pieces.of(branch.ids)[step - 1 :]), terminal)
        room = max(8, cells - len(head))
        lines.append([Span(head, "heading" if is_this else "plain"), Span(shorten(rest, room, terminal.glyphs.dots))])
    if most is None or len(lines) <= most:
        return lines
    start = max(0, min(texts.number - most // 2, len(lines) - most))
    return lines[start : start + most]


def compared_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int) -> list[Line]:
    """This branch beside the one that it left, or the next: what differs at the same step is painted as such."""
    texts, other = board.texts, board.texts.compared()
    if other is None:
        return []
    half = (cells - 2) // 2
    columns = [
        _column(number, texts.branches[number], texts.branches[against], pieces, terminal, half)
        for number, against in ((texts.number, other), (other, texts.number))
    ]
    return [
        [*fitted(left, half, terminal), Span("  "), *fitted(right, half, terminal)]
        for left, right in zip_longest(*columns, fillvalue=())
    ]


def _column(number: int, branch: Branch, other: Branch, pieces: Pieces, terminal: Terminal, cells: int) -> list[Line]:
    """A branch under its heading, marked where another one has a different token or none."""
    same = [token == theirs for token, theirs in zip_longest(branch.ids, other.ids)][: len(branch.ids)]
    heading: Line = [Span(f"Branch {number + 1}, {branch.sums_nats[-1]:.2f} nats", "heading")]
    return [heading, *wrap(token_spans(pieces.of(branch.ids), same, terminal), cells, terminal.theme)]
