"""The steps of a text, a row each: the text so far, then the likeliest next tokens with their probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wcwidth import width

from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.results.greedy import LayerDecoding, LayerRow
from layer_decoding.results.measures import percent
from layer_decoding.terminal.columns import Column, panels, prompt_lines, prose, table
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten, shorten_left
from layer_decoding.terminal.theme import CHOSEN, Terminal

_GAP = 2  # cells before a column
_BESIDE_TOKEN = _GAP + len(CHOSEN) + 1 + 4  # cells: the gap before a candidate, its star, a space and its percentage
_MOST_TOKEN = 14  # cells: a longer token is shortened
_LEAST_TOKEN = 5
_MUCH_TEXT = 16  # cells of text that the candidates after the first must leave free
_LEAST_TEXT = 6


@dataclass(frozen=True)
class _Step:
    """One step as it is shown: the text so far, and candidates as (token, percentage, whether it was chosen)."""

    text: str
    candidates: tuple[tuple[str, str, bool], ...]


def render_steps(
    decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, layers: Sequence[Layer] | None = None
) -> list[str]:
    """The prompt, the steps of the layers (None: of all), how likely the text is; a string a line.

    `decoding` must have been measured. Raises UsageError where the terminal is too narrow for one candidate.
    """
    rows = [row for row in decoding.rows if layers is None or row.layer in layers]
    tables = [_StepTable(row, decoding, prompt, pieces, terminal) for row in rows]
    needed = max(table.least_width() for table in tables)
    if terminal.width is not None and terminal.width < needed:
        raise UsageError(f"A step needs {needed} cells, the width is {terminal.width}; make it wider.")
    lines = prompt_lines(prompt, terminal)
    for steps in tables:
        lines += ["", *steps.lines()]
    lines.append("")
    for note in _notes(decoding, rows):
        lines += prose([Span(note)], terminal)
    return lines


def likelihood(row: LayerRow, decoding: LayerDecoding) -> str:
    """The log-probability that a row's layer gives to the whole text: the one it wrote, or the one it read."""
    logprobs = row.logprob_nats or ()
    whose = "tokens it wrote"
    if decoding.context == "shared" and not decoding.is_greedy:
        logprobs, whose = tuple(-bits * math.log(2) for bits in row.surprise_bits or ()), "tokens of the text"
    total = math.fsum(logprobs)
    perplexity = math.exp(-total / len(logprobs))
    return (
        f"Layer {row.layer} gives the {len(logprobs)} {whose} a log-probability of {total:.3f} nats in all:"
        f" perplexity {perplexity:.2f}."
    )


class _StepTable:
    """The steps of one layer in columns: a number, the text, the candidates, and what it makes of the text's token.

    That is its rank, where the text is the last layer's, else its probability.
    """

    def __init__(self, row: LayerRow, decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> None:
        self.row, self.terminal = row, terminal
        self.chosen = row.ids if decoding.context == "own" else decoding.text_ids
        self.last_head, self.last = _last_column(row, decoding)
        self.steps = self._steps(prompt, pieces)
        self.longest = max([_LEAST_TEXT, *(width(step.text) for step in self.steps)])
        self.number_cells = len(str(len(self.steps)))
        self.after = [self._last_column()] if self.last else []
        self.candidates = [self._candidate_column(place, _MOST_TOKEN) for place in range(len(self.steps[0].candidates))]

    def least_width(self) -> int:
        """The cells for the beginning of one candidate beside the end of the text."""
        least_token = min(self.candidates[0].width - _BESIDE_TOKEN, _LEAST_TOKEN)
        return self._beside_text() + _LEAST_TEXT + _BESIDE_TOKEN + least_token

    def lines(self) -> list[str]:
        """The heading, and a line a step."""
        candidates = self._fitting()
        cells = self.longest
        if self.terminal.width is not None:
            room = self.terminal.width - self._beside_text() - sum(column.width for column in candidates)
            cells = min(cells, room)
        return table([self._text_column(cells), *candidates, *self.after], self.terminal, heads=1)

    def _beside_text(self) -> int:
        """The cells of the numbers of the steps, and of the ranks."""
        return self.number_cells + _GAP + sum(column.width for column in self.after)

    def _fitting(self) -> list[Column]:
        """As many candidates as leave the text enough; of one, whose tokens may then be cut, at least."""
        if self.terminal.width is None:
            return self.candidates
        room = self.terminal.width - self._beside_text()
        fitting = panels(self.candidates, room - min(_MUCH_TEXT, self.longest))[0]
        if len(fitting) > 1:
            return fitting
        return [self._candidate_column(0, min(_MOST_TOKEN, room - _LEAST_TEXT - _BESIDE_TOKEN))]

    def _text_column(self, cells: int) -> Column:
        """The number of each step and the end of its text, in so many cells, under the layer's name."""
        lines: list[list[Span]] = [[Span(f"Layer {self.row.layer}")]]
        for number, step in enumerate(self.steps, 1):
            text = flush_right(shorten_left(step.text, cells, self.terminal.glyphs.dots), cells)
            lines.append([Span(f"{number:>{self.number_cells}}", "heading"), Span(" " * _GAP + text)])
        return Column(lines, gap=0)

    def _candidate_column(self, place: int, most: int) -> Column:
        """Each step's candidate of one place, its token in at most so many cells, and its percentage."""
        candidates = [step.candidates[place] for step in self.steps]
        tokens = [shorten(token, most, self.terminal.glyphs.dots) for token, *_ in candidates]
        cells = max(map(width, tokens)) + len(CHOSEN)
        lines = [[Span(f" #{place + 1}")]]
        for token, (_, probability, is_chosen) in zip(tokens, candidates, strict=True):
            text = f"{pad(token + CHOSEN * is_chosen, cells)} {probability:>4}"
            lines.append([Span(text, "chosen" if is_chosen else "plain")])
        return Column(lines, _GAP)

    def _last_column(self) -> Column:
        return Column([[Span(self.last_head)], *([Span(text)] for text in self.last)], _GAP, right=True)

    def _steps(self, prompt: str, pieces: Pieces) -> list[_Step]:
        written = pieces.of(self.chosen)
        steps = []
        for number, candidates in enumerate(self.row.candidates or ()):
            tokens = token_texts((candidate.id for candidate in candidates), pieces, self.terminal)
            chances = [percent(candidate.probability) for candidate in candidates]
            is_chosen = [candidate.id == self.chosen[number] for candidate in candidates]
            text = shown(prompt + "".join(written[:number]), self.terminal)
            steps.append(_Step(text, tuple(zip(tokens, chances, is_chosen, strict=True))))
        return steps


def _last_column(row: LayerRow, decoding: LayerDecoding) -> tuple[str, list[str]]:
    """The head and the texts of what a layer makes of the text's own token; nothing where its first candidate is it."""
    if decoding.context == "shared" and not decoding.is_greedy:
        return "text", [percent(2**-bits) for bits in row.surprise_bits or ()]
    ranks = () if row is decoding.final_row else row.final_token_rank or ()
    return "rank", [str(rank) for rank in ranks]


def _notes(decoding: LayerDecoding, rows: Sequence[LayerRow]) -> list[str]:
    """The legend, and how likely each whole text is."""
    candidates = "The likeliest next tokens after each text, #1 first, with their probabilities"
    if decoding.context == "own":
        said = [likelihood(row, decoding) for row in rows]
        return [f"{candidates}; {CHOSEN} is the one written, to each layer's own text.", *said]
    if not decoding.is_greedy:
        note = f"{candidates}; {CHOSEN} is the text's own, whose probability stands under text."
        return [note, *(likelihood(row, decoding) for row in rows)]
    chosen = f"{CHOSEN} is the one that layer {decoding.layer_count} chose"
    ranked = any(row is not decoding.final_row for row in rows)
    return [
        f"{candidates}; {chosen}" + (", rank its place in this layer's order." if ranked else "."),
        likelihood(decoding.final_row, decoding),
    ]
