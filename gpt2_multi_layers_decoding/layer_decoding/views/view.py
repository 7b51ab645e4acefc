"""The ways to look at every layer along a text, whoever wrote it: rows, table, steps, track, text, why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from layer_decoding.layers import Layer
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import BY_OPTION
from layer_decoding.results.why import Why
from layer_decoding.terminal.columns import prose
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.spans import Span
from layer_decoding.terminal.theme import Terminal
from layer_decoding.views.rows import cut_lens_notes, lens_notes, render_decoding
from layer_decoding.views.shaded import render_shaded
from layer_decoding.views.steps import render_steps
from layer_decoding.views.table import render_table
from layer_decoding.views.track import check_step, render_track, tracked_at
from layer_decoding.views.why import render_why

# A step of a decoding once more, with these tokens tracked (none: those on top at any layer): one step.
TrackStep = Callable[[int, Sequence[int]], LayerDecoding]
# Why the token at a step and not another (None: the likeliest besides), with a layer's heads apart (None: with none).
ExplainStep = Callable[[int, int | None, int | None], Why]


@dataclass(frozen=True)
class View:
    """Which way, and what belongs to it: a measure (table, text), layers (steps, text), a step, its tokens."""

    name: str  # rows, table, steps, track, text or why
    measure: str | None = None
    step: int = 1
    track: Sequence[int] = ()
    layers: Sequence[Layer] | None = ()  # none named is the last one, None is all
    against: int | None = None  # the other token, of why
    heads: int | None = None  # the layer whose attention is split, of why


@dataclass(frozen=True)
class Again:
    """What some views read once more, since what they show is known only after a decoding."""

    track: TrackStep
    explain: ExplainStep


def render_view(
    view: View, decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, again: Again
) -> list[str]:
    """The lines of a view; whatever is not rows must have been measured.

    Raises:
        UsageError: the terminal is too narrow for it, or there is no such step.
    """
    if view.name == "rows":
        return render_decoding(decoding, prompt, pieces, terminal)
    if view.name == "why":  # of the model itself, whatever lens reads its layers
        check_step(decoding, view.step)
        return render_why(again.explain(view.step, view.against, view.heads), prompt, pieces, terminal)
    claims = (cut_lens_notes if decoding.context == "own" else lens_notes)(decoding.lens, decoding.layer_count)
    lines = _closer_view(view, decoding, prompt, pieces, terminal, again)
    return [*lines, *(line for claim in claims for line in prose(claim, terminal))]


def _closer_view(
    view: View, decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, again: Again
) -> list[str]:
    """The lines of a view that is not rows."""
    measure = None if view.measure is None else BY_OPTION[view.measure]
    layers = view.layers if view.layers is None or view.layers else [decoding.layer_count]
    if view.name == "table":
        return render_table(decoding, prompt, pieces, terminal, measure)
    if view.name == "text":
        return render_shaded(decoding, prompt, pieces, terminal, layers, measure)
    if view.name == "steps":
        return render_steps(decoding, prompt, pieces, terminal, layers)
    check_step(decoding, view.step)
    written = decoding.text_ids[: view.step - 1]
    if decoding.tracked_ids:
        tracked = tracked_at(decoding, view.step, written)
    else:  # which tokens are on top is known only now
        tracked = tracked_at(again.track(view.step, view.track), 1, written)
    return render_track(tracked, prompt, pieces, terminal)


def render_under(
    heading: str,
    view: View,
    decoding: LayerDecoding,
    prompt: str,
    pieces: Pieces,
    terminal: Terminal,
    again: Again,
) -> list[str]:
    """The lines of a view of a text that stands among others, under a line that says which it is."""
    lines = prose([Span(f"{heading}, layer by layer", "heading")], terminal)
    return [*lines, "", *render_view(view, decoding, prompt, pieces, terminal, again)]
