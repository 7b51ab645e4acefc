"""The cell under the cursor as lines: the likeliest tokens with bars, the layer's numbers, where the step settles."""

from wcwidth import width

from layer_decoding.exploring.board import Board
from layer_decoding.results.measures import MEASURES, long_percent
from layer_decoding.terminal.columns import Line
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten, wrap
from layer_decoding.terminal.theme import CHOSEN, Terminal
from layer_decoding.views.distribution import bar

LEAST_CELLS = 31  # of the longest label with its number
_LEAST_CANDIDATES = 3
_MOST_TOKEN = 14
_CHANCE = 7  # cells of a percentage with the gap before it


def cell_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int, height: int | None = None) -> list[Line]:
    """All there is to say of a cell, in so many cells and lines of the screen; the last candidates go first."""
    candidates = candidate_lines(board, pieces, terminal, cells)
    numbers = number_lines(board, cells)
    if height is None or len(candidates) + 1 + len(numbers) <= height:
        return [*candidates, [], *numbers]
    return [*candidates[: max(_LEAST_CANDIDATES + 1, height - len(numbers))], *numbers]


def candidate_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int) -> list[Line]:
    """Which cell it is, and its candidates, the likeliest first; a star at the one that the text goes on with."""
    candidates = (board.cell.candidates or ((),))[0]
    is_written = board.step < board.texts.branch.open_step
    taken = board.texts.branch.steps[board.step - 1].text_ids[0] if is_written else None
    texts = token_texts([candidate.id for candidate in candidates], pieces, terminal)
    most = min(_MOST_TOKEN, max(map(width, texts), default=1))
    room = max(0, cells - 3 - most - len(CHOSEN) - _CHANCE)
    lines: list[Line] = [[Span(f"Step {board.step}, layer {board.layer}", "heading")]]
    for place, (candidate, text) in enumerate(zip(candidates, texts, strict=True), 1):
        is_taken = candidate.id == taken
        token = pad(shorten(text, most, terminal.glyphs.dots) + CHOSEN * is_taken, most + len(CHOSEN))
        drawn = pad(bar(candidate.probability, room, terminal.glyphs), room)
        chance = f"{long_percent(candidate.probability):>{_CHANCE}}"
        lines.append([Span(f"{place:>2} "), Span(token, "chosen" if is_taken else "plain"), Span(drawn + chance)])
    return lines


def number_lines(board: Board, cells: int) -> list[Line]:
    """The layer's measures, where the step settles, the lens, and how likely the text is up to there."""
    step, last = board.texts.branch.steps[board.step - 1], board.texts.branch.steps[0].layer_count
    says = [
        (measure.label.format(last=f"layer {last}"), measure.long(measure.values(board.cell)[0]))
        for measure in MEASURES
        if measure.is_in(step) and (measure.field != "surprise_bits" or board.step < board.texts.branch.open_step)
    ]
    says.append((f"{board.lens} lens, settles at", str((step.settles_at or ("",))[0])))
    if board.layer == last:
        says.append(("text before, nats", f"{board.texts.branch.sums_nats[board.step - 1]:.2f}"))
    return [
        [Span(label), Span(flush_right(number, max(len(number) + 1, cells - width(label))), "heading")]
        for label, number in says
    ]


def own_lines(board: Board, pieces: Pieces, terminal: Terminal, cells: int) -> list[Line]:
    """What the model cut off after a layer would write, once it has been asked for."""
    if board.own is None:
        return []
    heading = Span(f"Layer {board.own.layer}'s own text from step {board.own.step}:", "heading")
    text = Span(shown("".join(pieces.of(board.own.ids)), terminal))
    return list(wrap([heading, text], cells, terminal.theme))
