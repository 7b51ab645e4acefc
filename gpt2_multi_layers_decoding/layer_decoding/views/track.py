"""How likely some tokens were through the layers, at one step: probability and rank as small sparklines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wcwidth import width

from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import percent
from layer_decoding.terminal.columns import Column, labelled, panels, prompt_lines, prose, table
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, pad, shorten
from layer_decoding.terminal.theme import CHOSEN, Glyphs, Role, Terminal

_GAP = 2  # cells before a column
_NAME = 4  # cells: p, rank
_BESIDE_TOKEN = len(CHOSEN) + 1 + _NAME
_MOST_TOKEN = 12  # cells: a longer token is shortened
_LEAST_TOKEN = 4


# ---------------------------------------------------------------- what is looked at
@dataclass(frozen=True)
class Tracked:
    """N tokens at one step, as R layers see them; `written` are the tokens between the prompt and the step."""

    written: tuple[int, ...]
    layers: tuple[Layer, ...]  # [R]
    text_id: int  # the text's own
    is_chosen: bool  # whether the last layer says that one too
    ids: tuple[int, ...]  # [N]
    probabilities: tuple[tuple[float, ...], ...]  # [N][R]
    ranks: tuple[tuple[int, ...], ...]  # [N][R]


def tracked_at(tracked: LayerDecoding, step: int, written: Sequence[int]) -> Tracked:
    """The tokens that a decoding tracked, at one of its steps, from 1."""
    probabilities = [(row.tracked_probabilities or ())[step - 1] for row in tracked.rows]  # [R][N]
    ranks = [(row.tracked_ranks or ())[step - 1] for row in tracked.rows]
    return Tracked(
        tuple(written),
        tuple(row.layer for row in tracked.rows),
        tracked.text_ids[step - 1],
        tracked.final_row.ids[step - 1] == tracked.text_ids[step - 1],
        tracked.tracked_ids,
        tuple(zip(*probabilities, strict=True)),
        tuple(zip(*ranks, strict=True)),
    )


def check_step(decoding: LayerDecoding, step: int) -> None:
    """Raise UsageError where the text ended before a step, from 1."""
    written = len(decoding.text_ids)
    if step > written:
        raise UsageError(
            f"There is no step {step}: the text ended after {written} tokens; choose one up to that.", settings=["step"]
        )


# ---------------------------------------------------------------- the view
@dataclass(frozen=True)
class _Curve:
    """One line: whose it is, what it shows, a bar a layer, the best value and the last layer's."""

    token: str
    role: Role
    name: str
    bars: str
    numbers: tuple[str, str]


def render_track(look: Tracked, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The prompt, what was written after it, and two curves a token; a string a line.

    Raises UsageError where the terminal is too narrow for a bar a layer.
    """
    lines = prompt_lines(prompt, terminal)
    if look.written:
        so_far = shown("".join(pieces.of(look.written)), terminal)
        lines += labelled(pad("Then:", len("Prompt:")), [Span(so_far)], terminal)
    lines += ["", *_table(look, pieces, terminal), ""]
    for note in _notes(look, terminal.glyphs):
        lines += prose([Span(note)], terminal)
    return lines


def _table(look: Tracked, pieces: Pieces, terminal: Terminal) -> list[str]:
    """A heading and the curves, in columns; the numbers after the bars only where there is room for them."""
    curves = _curves(look, pieces, terminal)
    bars = Column([[Span(axis(look.layers))], *([Span(curve.bars, curve.role)] for curve in curves)], _GAP)
    heads = ("best", f"at {look.layers[-1]}")
    numbers = [
        Column([[Span(head)], *([Span(text)] for text in texts)], _GAP)
        for head, *texts in zip(heads, *(curve.numbers for curve in curves), strict=True)
    ]
    token = min(_MOST_TOKEN, max(width(curve.token) for curve in curves))
    if terminal.width is not None:
        room = terminal.width - token - _BESIDE_TOKEN - bars.width
        numbers = panels(numbers, room)[0] if numbers[0].width <= room else []
        token = _cut_token(token, room, len(look.layers), terminal.width)
    names = _name_column(f"Step {len(look.written) + 1}", curves, token, terminal.glyphs)
    return table([names, bars, *numbers], terminal, heads=1)


def _cut_token(token: int, room: int, bars: int, cells: int) -> int:
    """A token's cells, fewer where `room`, what is left beside it and the bars, is missing."""
    cut = max(0, -room)
    least = min(token, _LEAST_TOKEN)
    if token - cut < least:
        raise UsageError(
            f"A bar for each of {bars} layers needs {cells - room - token + least} cells, the width is {cells};"
            " make it wider or choose fewer --layers."
        )
    return token - cut


def _name_column(head: str, curves: Sequence[_Curve], cells: int, glyphs: Glyphs) -> Column:
    """Whose curve each is, the token in so many cells, and what it shows."""
    lines = [[Span(head)]]
    for curve in curves:
        token = shorten(curve.token, cells, glyphs.dots)
        token += CHOSEN if token and curve.role == "chosen" else ""
        blank = " " * (cells + len(CHOSEN) - width(token))
        lines.append([Span(token, curve.role), Span(f"{blank} {curve.name:<{_NAME}}")])
    return Column(lines, gap=0)


def _curves(look: Tracked, pieces: Pieces, terminal: Terminal) -> list[_Curve]:
    """Two for each token: its probability, beside its name, and under that its rank."""
    highest = max(map(max, look.probabilities))
    curves = []
    glyphs, texts = terminal.glyphs, token_texts(look.ids, pieces, terminal)
    for token, text, chances, ranks in zip(look.ids, texts, look.probabilities, look.ranks, strict=True):
        role: Role = "chosen" if token == look.text_id else "plain"
        bars = "".join(probability_bar(chance, highest, glyphs) for chance in chances)
        best = look.layers[chances.index(max(chances))]
        curves.append(_Curve(text, role, "p", bars, (f"{percent(max(chances))} at {best}", percent(chances[-1]))))
        bars = "".join(rank_bar(rank, glyphs) for rank in ranks)
        best = look.layers[ranks.index(min(ranks))]
        curves.append(_Curve("", role, "rank", bars, (f"{min(ranks)} at {best}", str(ranks[-1]))))
    return curves


def axis(layers: Sequence[Layer]) -> str:
    """The first and the last layer over the ends of their bars.

    >>> axis(range(1, 13))
    '1         12'
    """
    first, last = str(layers[0]), str(layers[-1])
    if len(layers) == 1:
        return last
    gap = len(layers) - len(first) - len(last)
    return first + " " * gap + last if gap > 0 else f"{first}-{last}"


def probability_bar(probability: float, highest: float, glyphs: Glyphs) -> str:
    """A probability as one of eight bars, the highest of all a full one."""
    return glyphs.bars[min(7, int(8 * probability / highest))] if highest else glyphs.bars[0]


def rank_bar(rank: int, glyphs: Glyphs) -> str:
    """A rank as one of eight bars: full at 1, and one lower for every factor √10.

    >>> "".join(rank_bar(rank, Glyphs()) for rank in (1, 2, 10, 11, 100, 1000, 1001, 50257))
    '█▇▆▅▄▂▁▁'
    """
    return glyphs.bars[max(0, 7 - math.ceil(2 * math.log10(rank)))]


def _notes(look: Tracked, glyphs: Glyphs) -> list[str]:
    """How to read the curves."""
    whose = f"that layer {look.layers[-1]} chose" if look.is_chosen else "of the text"
    highest = percent(max(map(max, look.probabilities)))
    full, middle, empty = glyphs.bars[-1], rank_bar(100, glyphs), glyphs.bars[0]
    return [
        f"A bar a layer. p: the token's probability, {full} is {highest}, the highest here. rank: its place among all"
        f" tokens, {full} is 1, {middle} 100, {empty} beyond 1000. {CHOSEN} is the token {whose}."
    ]
