"""The beam search's answer as lines: a table of hypotheses with greedy beside them, then layers, trace and lens.

What is not in rank 1's text, in the same order, is painted as differing: an insertion colours itself alone.
"""

import math
from dataclasses import dataclass

from layer_decoding.results.beam import BeamSearch, BeamSettings, Hypothesis, LayerSearch, ScoredText
from layer_decoding.terminal.alignment import common_positions
from layer_decoding.terminal.columns import (
    Column,
    beside,
    heading,
    prompt_lines,
    prose,
    side_by_side,
    wrapped,
)
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import Span, token_spans
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.beam_tree import render_trace
from layer_decoding.views.rows import cut_lens_notes

_UNDER = 2  # cells: the indent of a text under its numbers


def render_search(search: BeamSearch, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The whole answer, a string a line, no newline at the end of any."""
    lines = [*prompt_lines(prompt, terminal), "", *_table(search, pieces, terminal)]
    claims = cut_lens_notes(search.lens, search.layer_count) if search.layers else []
    for note in [*legend(search), *claims, *findings(search), WHY_SUMS]:
        lines += prose(note, terminal)
    if search.trace is not None:
        lines += ["", *render_trace(search, pieces, terminal)]
    return lines


# ---------------------------------------------------------------- the table
@dataclass(frozen=True)
class _Row:
    """A text with its numbers as they are printed, and the text it is compared with."""

    name: str
    numbers: tuple[str, str, str]  # score, log p, n
    ids: tuple[int, ...]
    against: tuple[int, ...]


def _table(search: BeamSearch, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The blocks under one heading, their numbers aligned over all of them, an empty line after each."""
    blocks = _blocks(search)
    rows = [row for _, block in blocks for row in block]
    names = Column([[Span("rank")], *([Span(row.name, "heading")] for row in rows)], gap=0)
    numbers = [
        Column([[Span(text)] for text in texts], gap=2, right=True)
        for texts in zip(("score", "log p", "n"), *(row.numbers for row in rows), strict=True)
    ]
    head, *starts = side_by_side([names, *numbers])
    lines = wrapped([heading([*head, Span("  text")])], terminal)
    start = iter(starts)
    for title, block in blocks:
        lines += wrapped([Span(title, "heading")], terminal) if title else []
        for row in block:
            lines += beside(next(start), _text(row, pieces, terminal), terminal, gap=1, under=_UNDER)
        lines.append("")
    return lines


def _blocks(search: BeamSearch) -> list[tuple[str, list[_Row]]]:
    """Titles and rows: what the model cut off after each layer finds, then what the model does."""
    last = search.layer_count
    blocks = [(f"Layer {layer.layer}", _layer_rows(layer, search)) for layer in search.layers if layer.layer != last]
    return [*blocks, (f"Layer {last}, the model" if search.layers else "", _model_rows(search))]


def _model_rows(search: BeamSearch) -> list[_Row]:
    """The hypotheses, the greedy text, and the best text without the n-gram rule."""
    best = search.hypotheses[0].ids
    rows = [_row(str(text.rank), text, best, search.settings) for text in search.hypotheses]
    if search.greedy is not None:
        rows.append(_row("greedy", search.greedy, best, search.settings))
    if search.unrestricted is not None:
        rows.append(_row("free", search.unrestricted, best, search.settings))
    return rows


def _layer_rows(layer: LayerSearch, search: BeamSearch) -> list[_Row]:
    """A layer's hypotheses and greedy text."""
    first, *others = layer.hypotheses
    return [
        _row("1", first, search.hypotheses[0].ids, search.settings),
        *(_row(str(text.rank), text, first.ids, search.settings) for text in others),
        _row("greedy", layer.greedy, first.ids, search.settings),
    ]


def _text(row: _Row, pieces: Pieces, terminal: Terminal) -> list[Span]:
    """A row's tokens, those marked that are not in the text it is compared with, in the same order."""
    common = {position for position, _ in common_positions(row.ids, row.against)}
    same = [position in common for position in range(len(row.ids))]
    return token_spans(pieces.of(row.ids), same, terminal)


def _row(name: str, text: ScoredText, against: tuple[int, ...], settings: BeamSettings) -> _Row:
    score = text.score if isinstance(text, Hypothesis) else settings.score(text.logprob_nats, len(text.ids))
    return _Row(name, (f"{score:.4f}", f"{text.logprob_nats:.3f}", str(len(text.ids))), text.ids, against)


# ---------------------------------------------------------------- notes
WHY_SUMS = [
    Span(
        "Logarithms are summed because a product of many probabilities is soon too small for a float32: 0.5**1024 comes"
        " out as 0, the sum of its logarithms as -709.8."
    )
]


def legend(search: BeamSearch) -> list[list[Span]]:
    """How to read the rows: one list of spans a line."""
    marked = [Span("Tokens marked "), Span("so", "differs"), Span(" are not in rank 1's text in this order.")]
    if search.layers:
        marked.append(
            Span(
                f" In a layer's block (the same search on the model cut off there) rank 1 is compared with layer"
                f" {search.layer_count}'s, the others with the rank 1 above them."
            )
        )
    return [
        marked,
        [
            Span(
                "log p is the sum of the natural logarithms of the n tokens' probabilities;"
                f" score = {score_formula(search.settings.length_penalty)} is what the search ranks by."
            )
        ],
    ]


def score_formula(length_penalty: float) -> str:
    """The score in terms of log p and n, as short as it can be said.

    >>> score_formula(1.0), score_formula(0.0), score_formula(0.5)
    ('log p / n', 'log p', 'log p / n**0.5')
    """
    if length_penalty in (0, 1):
        return "log p / n" if length_penalty else "log p"
    return f"log p / n**{length_penalty:g}"


def findings(search: BeamSearch) -> list[list[Span]]:
    """What the search gained over greedy decoding, and what its n-gram rule cost."""
    notes = []
    best, size = search.hypotheses[0], search.settings.no_repeat_ngram_size
    missing = search.settings.num_return_sequences - len(search.hypotheses)
    if search.interrupted:
        notes.append("The search was interrupted: these are the texts and beams it had.")
    elif missing:
        notes.append(f"{missing} of the texts asked for were not found: there are no more.")
    if search.greedy is not None:  # which knows no rule, so it is compared with what knows none either
        name = "Rank 1" if search.unrestricted is None else "The row free"
        notes.append(compared_with_greedy(name, search.unrestricted or best, search.greedy))
    if search.unrestricted is not None:
        notes.append(cost_of_rule(best, search.unrestricted, size))
    return [[Span(note)] for note in notes]


def compared_with_greedy(name: str, best: Hypothesis, greedy: ScoredText) -> str:
    """Whether beam search found a likelier text than greedy decoding, and by how much."""
    gain = best.logprob_nats - greedy.logprob_nats
    if best.ids == greedy.ids:
        return f"{name} is the greedy text: beam search found nothing better."
    lengths = ""
    if len(best.ids) != len(greedy.ids):
        lengths = f", with {len(best.ids)} tokens against {len(greedy.ids)}"
    if gain > 0:
        return f"{name} is likelier than the greedy text: by {gain:.3f} nats, {_times(gain)} as probable{lengths}."
    return f"{name} is less likely than the greedy text: by {-gain:.3f} nats{lengths}."


def cost_of_rule(best: Hypothesis, free: Hypothesis, size: int) -> str:
    """The gap between the best text with the n-gram rule and the best without."""
    what = "token" if size == 1 else f"{size} tokens in a row"
    rule = f"That no {what} may come twice, those of the prompt included,"
    cost = free.logprob_nats - best.logprob_nats
    if best.ids == free.ids:
        return f"{rule} costs nothing here: the row free, the best without the rule, is rank 1."
    if cost >= 0:
        return f"{rule} costs {cost:.3f} nats: the row free is the best without the rule, {_times(cost)} as probable."
    return f"{rule} costs nothing here: the row free, the best without the rule, is less likely by {-cost:.3f} nats."


def _times(nats: float) -> str:
    """A difference of log-probabilities as a factor: '7.6 times'."""
    if nats > 700:
        return f"e**{nats:.0f} times"
    factor = math.exp(nats)
    return f"{factor:.2f} times" if factor < 100 else f"{factor:,.0f} times" if factor < 1e6 else f"{factor:.1e} times"
