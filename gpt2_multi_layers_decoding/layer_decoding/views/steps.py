"""The steps of a text, a row each: the text so far, then the likeliest next tokens with their probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wcwidth import width

from layer_decoding.errors import UsageError
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.terminal.numbers import CHOSEN, percent
from layer_decoding.terminal.pieces import Pieces, escape, token_texts
from layer_decoding.terminal.spans import Span, flush_right, labelled, pad, prose, shorten, shorten_left
from layer_decoding.terminal.theme import Terminal

_BESIDE_TOKEN = 2 + len(CHOSEN) + 1 + 4  # cells: the gap before a candidate, its star, a space and its percentage
_MOST_TOKEN = 14  # cells: a longer token is shortened
_LEAST_TOKEN = 5
_MUCH_TEXT = 16  # cells of text that the candidates after the first must leave free
_LEAST_TEXT = 6


@dataclass(frozen=True)
class _Step:
    """One step as it is shown: the text so far, and candidates as (token, percentage, whether it was chosen)."""

    text: str
    candidates: tuple[tuple[str, str, bool], ...]
    rank: str


def render_steps(
    decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, layers: Sequence[int] | None = None
) -> list[str]:
    """The prompt, the steps of the layers (None: of all), how likely the text is; a string a line.

    `decoding` must have been measured. Raises UsageError where the terminal is too narrow for one candidate.
    """
    shown = [row for row in decoding.rows if layers is None or row.layer in layers]
    tables = [_StepTable(row, decoding, prompt, pieces, terminal) for row in shown]
    needed = max(table.least_width() for table in tables)
    if terminal.width is not None and terminal.width < needed:
        raise UsageError(f"A step needs {needed} cells, the width is {terminal.width}; make it wider.")
    lines = labelled("Prompt:", [Span(" " + terminal.written(escape(prompt, terminal.glyphs.newline)))], terminal)
    for table in tables:
        lines += ["", *table.lines()]
    lines.append("")
    for note in _notes(decoding, shown):
        lines += prose([Span(note)], terminal)
    return lines


def likelihood(row: LayerRow) -> str:
    """The log-probability that a row's layer gives to the whole text that it wrote."""
    logprobs = row.logprob_nats or ()
    total = math.fsum(logprobs)
    perplexity = math.exp(-total / len(logprobs))
    return (
        f"Layer {row.layer} gives the {len(logprobs)} tokens it wrote a log-probability of {total:.3f} nats in all:"
        f" perplexity {perplexity:.2f}."
    )


class _StepTable:
    """The steps of one layer in columns: a number, the text, the candidates, the rank of what was chosen."""

    def __init__(self, row: LayerRow, decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> None:
        self.row, self.terminal = row, terminal
        self.chosen = row.ids if decoding.context == "own" else decoding.final_row.ids
        self.ranks = row.final_token_rank if row is not decoding.final_row else None
        self.steps = self._steps(prompt, pieces)
        self.longest = max([_LEAST_TEXT, *(width(step.text) for step in self.steps)])
        self.number_cells = len(str(len(self.steps)))
        self.rank_cells = 2 + max(len("rank"), *(len(step.rank) for step in self.steps)) if self.ranks else 0
        columns = zip(*(step.candidates for step in self.steps), strict=True)
        self.widest = [min(_MOST_TOKEN, max(width(token) for token, *_ in column)) for column in columns]

    def least_width(self) -> int:
        """The cells for the beginning of one candidate beside the end of the text."""
        text_and_token = _LEAST_TEXT + _BESIDE_TOKEN + min(self.widest[0], _LEAST_TOKEN)
        return self.number_cells + 2 + text_and_token + self.rank_cells

    def lines(self) -> list[str]:
        """The heading, and a line a step."""
        text_cells, token_cells = self._fit()
        heading = pad(f"Layer {self.row.layer}", self.number_cells + 2 + text_cells)
        for number, cells in enumerate(token_cells, 1):
            heading += pad(f"   #{number}", cells + _BESIDE_TOKEN)
        if self.ranks:
            heading += flush_right("rank", self.rank_cells)
        lines = [self.terminal.theme.paint(heading.rstrip(" "), "heading")]
        return lines + [self._line(number, text_cells, token_cells) for number in range(len(self.steps))]

    def _fit(self) -> tuple[int, list[int]]:
        """The cells of the text, and of as many candidates' tokens as leave it enough; of one at least."""
        tokens = list(self.widest)
        if self.terminal.width is None:
            return self.longest, tokens
        room = self.terminal.width - self.number_cells - 2 - self.rank_cells
        much = min(_MUCH_TEXT, self.longest)
        while len(tokens) > 1 and much + sum(tokens) + len(tokens) * _BESIDE_TOKEN > room:
            tokens.pop()
        if len(tokens) == 1:
            tokens = [min(tokens[0], room - _LEAST_TEXT - _BESIDE_TOKEN)]
        return min(self.longest, room - sum(tokens) - len(tokens) * _BESIDE_TOKEN), tokens

    def _line(self, number: int, text_cells: int, token_cells: Sequence[int]) -> str:
        step, paint = self.steps[number], self.terminal.theme.paint
        text = shorten_left(step.text, text_cells, self.terminal.glyphs.dots)
        line = paint(f"{number + 1:>{self.number_cells}}", "heading") + "  " + flush_right(text, text_cells)
        for (token, probability, is_chosen), cells in zip(step.candidates, token_cells, strict=False):
            shown = shorten(token, cells, self.terminal.glyphs.dots) + (CHOSEN if is_chosen else "")
            candidate = f"{pad(shown, cells + len(CHOSEN))} {probability:>4}"
            line += "  " + paint(candidate, "chosen" if is_chosen else "plain")
        return line + flush_right(step.rank, self.rank_cells)

    def _steps(self, prompt: str, pieces: Pieces) -> list[_Step]:
        glyphs = self.terminal.glyphs
        written = pieces.of(self.chosen)
        steps = []
        for number, candidates in enumerate(self.row.candidates or ()):
            tokens = map(self.terminal.written, token_texts((c.id for c in candidates), pieces, glyphs))
            chances = [percent(candidate.probability) for candidate in candidates]
            is_chosen = [candidate.id == self.chosen[number] for candidate in candidates]
            text = self.terminal.written(escape(prompt + "".join(written[:number]), glyphs.newline))
            rank = str(self.ranks[number]) if self.ranks else ""
            steps.append(_Step(text, tuple(zip(tokens, chances, is_chosen, strict=True)), rank))
        return steps


def _notes(decoding: LayerDecoding, shown: Sequence[LayerRow]) -> list[str]:
    """The legend, and how likely each whole text is."""
    candidates = "The likeliest next tokens after each text, #1 first, with their probabilities"
    if decoding.context == "own":
        return [f"{candidates}; {CHOSEN} is the one written, to each layer's own text.", *map(likelihood, shown)]
    chosen = f"{CHOSEN} is the one that layer {decoding.layer_count} chose"
    ranked = any(row is not decoding.final_row for row in shown)
    return [
        f"{candidates}; {chosen}" + (", rank its place in this layer's order." if ranked else "."),
        likelihood(decoding.final_row),
    ]
