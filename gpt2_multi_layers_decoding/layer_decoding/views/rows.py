"""The greedy script's answer as lines: the prompt, one row a layer, a legend, where each token settles.

What differs from the last layer's row is painted as such. In own context the texts drift apart, so rows are
aligned with the last by their longest common subsequence and the place where a row first leaves it is marked.
"""

from collections import Counter
from collections.abc import Sequence
from math import ceil

from wcwidth import width

from layer_decoding.layers import PLAIN_LENS, HalfStep, Layer
from layer_decoding.results.greedy import LayerDecoding, LayerRow, partial_decoding
from layer_decoding.terminal.alignment import common_positions, common_prefix
from layer_decoding.terminal.columns import labelled, prompt_lines, prose
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, merge, pad, paint, shorten_left, tail, token_spans
from layer_decoding.terminal.theme import Glyphs, Terminal


def render_decoding(decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The whole answer, a string a line, no newline at the end of any."""
    lines = [*render_rows(decoding, prompt, pieces, terminal), ""]
    for note in notes(decoding, terminal.glyphs):
        lines += prose(note, terminal)
    return lines + settles_lines(decoding, pieces, terminal)


def settles_lines(decoding: LayerDecoding, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The text's tokens, each with the layer from which on it is the last layer's; nothing where that is not known.

    One that begins a word keeps its space, so that word beginnings stand apart.
    """
    if not decoding.settles_at:
        return []
    texts = token_texts(decoding.final_row.ids, pieces, terminal)
    spans = []
    for text, layer in zip(texts, decoding.settles_at, strict=True):
        spans += [Span(f" {text}"), Span(f" {layer}", "note", glued=True)]
    return labelled(pad("Settles:", label_cells(decoding)), spans, terminal)


def label_cells(decoding: LayerDecoding) -> int:
    """What stands before each row, with a gap for one that begins without a space."""
    return max(width(f"Layer {row.layer}: ") for row in decoding.rows)


def render_rows(decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The prompt, then one row a layer, aligned, each wrapped under itself."""
    lines = [*prompt_lines(prompt, terminal), ""]
    cells = label_cells(decoding)
    for row in decoding.rows:
        label = pad(f"Layer {row.layer}:", cells)
        lines += labelled(label, row_spans(row, decoding, pieces, terminal), terminal)
    if not decoding.is_greedy:
        lines += labelled(pad("Text:", cells), text_spans(decoding, pieces, terminal), terminal)
    return lines


def render_growing(decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, height: int) -> list[str]:
    """The rows of a decoding under way in so many lines: whole, or where they outgrow them the end of each.

    Of more rows than lines the last ones.
    """
    lines = render_rows(decoding, prompt, pieces, terminal)
    if terminal.width is None or len(lines) <= height:
        return lines
    cells = label_cells(decoding)
    room, dots = terminal.width - cells, terminal.glyphs.dots
    lines = labelled("Prompt:", [Span(f" {shorten_left(shown(prompt, terminal), room, dots)}")], terminal)
    lines.append("")
    for row in decoding.rows[max(0, len(decoding.rows) - height + len(lines)) :]:
        ending = tail(row_spans(row, decoding, pieces, terminal), room, dots, terminal.theme)
        label = Span(pad(f"Layer {row.layer}:", cells), "heading")
        lines.append(paint(merge([label, *ending]), terminal.theme))
    return lines


def render_stages(
    decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal, most: int
) -> list[list[str]]:
    """What `render_growing` showed of a decoding token after token, on a screen high enough for all of its rows.

    Where there are more tokens than `most`, as few of the stages as needed are left out between any two, and the last
    is there.
    """
    steps = max(len(row.ids) for row in decoding.rows)
    stages = []
    for step in reversed(range(steps, 0, -ceil(steps / most))):
        rows = {row.layer: list(row.ids[:step]) for row in decoding.rows}
        ids = list(decoding.prompt_ids)
        stage = partial_decoding(decoding.context, decoding.layer_count, ids, decoding.max_new_tokens, rows)
        stages.append(render_rows(stage, prompt, pieces, terminal))
    return stages


def text_spans(decoding: LayerDecoding, pieces: Pieces, terminal: Terminal) -> list[Span]:
    """The text that the rows are read along, as a row: right everywhere; how often the last layer says so."""
    final = decoding.final_row
    same = [token == said for token, said in zip(decoding.text_ids, final.ids, strict=True)]
    spans = token_spans(pieces.of(decoding.text_ids), [True] * len(same), terminal)
    return [*spans, Span(f"  {sum(same)}/{len(same)}", "note", glued=True)]


def row_spans(row: LayerRow, decoding: LayerDecoding, pieces: Pieces, terminal: Terminal) -> list[Span]:
    """A row's tokens, those that differ from the last row's marked, and how many do not at its end."""
    same, leaves_at = compare(row, decoding)
    right = decoding.correct(row) if decoding.context == "shared" else same
    spans = token_spans(pieces.of(row.ids), [one or other for one, other in zip(same, right, strict=True)], terminal)
    if leaves_at is not None:
        spans.insert(leaves_at, Span(terminal.glyphs.leaves, "note"))
    if row is decoding.final_row:
        return spans
    return [*spans, Span(f"  {sum(same)}/{len(decoding.final_row.ids)}", "note", glued=True)]


def compare(row: LayerRow, decoding: LayerDecoding) -> tuple[list[bool], int | None]:
    """Which of a row's tokens are the last row's, and (own context) the position where it first leaves that row."""
    if decoding.context == "shared":
        return list(decoding.agrees(row)), None
    final = decoding.final_row.ids
    common = {position for position, _ in common_positions(row.ids, final)}
    leaves_at = common_prefix(row.ids, final)
    same = [position in common for position in range(len(row.ids))]
    return same, None if leaves_at == max(len(row.ids), len(final)) else leaves_at


def notes(decoding: LayerDecoding, glyphs: Glyphs) -> list[list[Span]]:
    """The legend, and where the text settles: one list of spans a line."""
    last, total = decoding.layer_count, len(decoding.final_row.ids)
    example, leaves = Span("so", "differs"), Span(glyphs.leaves, "note")
    if decoding.context == "own":
        return [
            *cut_lens_notes(decoding.lens, last),
            [Span("Each row is a text of its layer's own: what the model cut off after that block writes.")],
            [Span("Tokens marked "), example, Span(f" are not in layer {last}'s text in this order; n/{total} are.")],
            [Span("A row leaves that text at "), leaves, Span(".")],
        ]
    differing = f"differ from layer {last}'s" + ("" if decoding.is_greedy else " and from the text's own")
    lines = [
        *lens_notes(decoding.lens, last),
        [
            Span(f"Each row is what its layer would have said at every step of {whose_text(decoding)}."),
            Span(" Each token is said by itself, after the text so far: early layers string pieces of words together."),
        ],
        [Span("Tokens marked "), example, Span(f" {differing}; n/{total} agree.")],
    ]
    return lines + half_step_notes(decoding) + settling_notes(decoding, glyphs)


def half_step_notes(decoding: LayerDecoding) -> list[list[Span]]:
    """What a half step is, where there are any."""
    halves = [row.layer for row in decoding.rows if isinstance(row.layer, HalfStep)]
    if not halves:
        return []
    return [[Span(f"{halves[0]} is inside block {halves[0].block}, after its attention and before its MLP.")]]


def settling_notes(decoding: LayerDecoding, glyphs: Glyphs) -> list[list[Span]]:
    """Where the text settles; with every half step, also how often that is at an attention and at an MLP."""
    if not decoding.settles_at:
        return []
    lines = [[Span(settling(decoding.settles_at, glyphs))]]
    if sum(isinstance(row.layer, HalfStep) for row in decoding.rows) == decoding.layer_count:
        attention = sum(isinstance(layer, HalfStep) for layer in decoding.settles_at)
        mlp = len(decoding.settles_at) - attention
        lines.append(
            [Span(f"The last change was an attention's {glyphs.times}{attention}, an MLP's {glyphs.times}{mlp}.")]
        )
    return lines


def whose_text(decoding: LayerDecoding) -> str:
    """What the text that the rows are read along is called in a legend."""
    return f"layer {decoding.layer_count}'s text" if decoding.is_greedy else "the text"


def settling(settles_at: Sequence[Layer], glyphs: Glyphs) -> str:
    """For how many tokens each layer is the first from which on the choice no longer changes.

    >>> settling([12, 1, 12], Glyphs())
    'Settles at layer 1 ×1, 12 ×2 (the first from which a token no longer changes).'
    """
    counts = sorted(Counter(settles_at).items())
    where = ", ".join(f"{layer} {glyphs.times}{count}" for layer, count in counts)
    return f"Settles at layer {where} (the first from which a token no longer changes)."


def lens_notes(lens: str, last: Layer) -> list[list[Span]]:
    """What a fitted lens claims, in the legend of its rows."""
    return _claim(
        lens,
        f"Read through the {lens} lens: each row predicts what layer {last} will say, by a map fitted for its layer; it"
        " is not what the layer says by itself.",
    )


def cut_lens_notes(lens: str, last: int) -> list[list[Span]]:
    """The same where a model is cut off after a block and goes on through the map."""
    return _claim(
        lens,
        f"Cut off there, the model goes on through the {lens} lens: a layer's text predicts layer {last}'s, by a map"
        " fitted for that layer; it is not what the layer says by itself.",
    )


def _claim(lens: str, sentence: str) -> list[list[Span]]:
    """A sentence of a fitted lens; of the plain one nothing need be said."""
    return [] if lens == PLAIN_LENS else [[Span(sentence)]]
