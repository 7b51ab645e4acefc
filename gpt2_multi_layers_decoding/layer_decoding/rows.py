"""The greedy script's answer as lines: the prompt, one row a layer, a legend, where the text settles.

What differs from the last layer's row is painted as such. In own context the texts drift apart, so rows are
aligned with the last by their longest common subsequence and the place where a row first leaves it is marked.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from unicodedata import category

from wcwidth import width

from layer_decoding.alignment import common_positions, common_prefix
from layer_decoding.pieces import Pieces, escape
from layer_decoding.results import LayerDecoding, LayerRow
from layer_decoding.terminal import Glyphs, Terminal
from layer_decoding.wrapping import Span, pad, paint, wrap


def render_decoding(decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The whole answer, a string a line, no newline at the end of any."""
    lines = [*render_rows(decoding, prompt, pieces, terminal), ""]
    for note in notes(decoding, terminal.glyphs):
        lines += prose(note, terminal)
    return lines


def render_rows(decoding: LayerDecoding, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The prompt, then one row a layer, aligned, each wrapped under itself."""
    lines = [*labelled("Prompt:", [Span(" " + escape(prompt, terminal.glyphs.newline))], terminal), ""]
    label_cells = width(f"Layer {decoding.layer_count}: ")  # a gap, for a row that begins without a space
    for row in decoding.rows:
        label = pad(f"Layer {row.layer}:", label_cells)
        lines += labelled(label, row_spans(row, decoding, pieces, terminal.glyphs), terminal)
    return lines


def labelled(label: str, spans: Sequence[Span], terminal: Terminal) -> list[str]:
    """Spans wrapped beside a label, the following lines indented under the first."""
    indent = width(label)
    room = None if terminal.width is None else terminal.width - indent
    lines = wrap(spans, room)
    heads = [terminal.theme.paint(label, "heading")] + [" " * indent] * (len(lines) - 1)
    return [head + paint(line, terminal.theme) for head, line in zip(heads, lines, strict=True)]


def prose(spans: Sequence[Span], terminal: Terminal) -> list[str]:
    """A sentence wrapped as sentences are: no line begins with the space before its first word."""
    first, *others = wrap(spans, terminal.width)
    unindented = [[replace(line[0], text=line[0].text.lstrip(" ")), *line[1:]] for line in others]
    return [paint(line, terminal.theme) for line in [first, *unindented]]


def row_spans(row: LayerRow, decoding: LayerDecoding, pieces: Pieces, glyphs: Glyphs) -> list[Span]:
    """A row's tokens, those that differ from the last row's marked, and how many do not at its end."""
    same, leaves_at = compare(row, decoding)
    spans = token_spans(pieces.of(row.ids), same, glyphs)
    if leaves_at is not None:
        spans.insert(leaves_at, Span(glyphs.leaves, "note"))
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


def token_spans(texts: Sequence[str], same: Sequence[bool], glyphs: Glyphs) -> list[Span]:
    """One span a token. A fragment of a character has an empty one; whichever completes it differs if either does."""
    spans, pending = [], False
    for text, is_same in zip(texts, same, strict=True):
        pending = pending or not is_same
        spans.append(Span(visible(text, glyphs), "differs" if pending else "plain"))
        if text:
            pending = False
    return spans


def visible(text: str, glyphs: Glyphs) -> str:
    """A token as shown: nothing a terminal obeys, newlines as a mark, and spaces too where there is nothing else."""
    if text.isspace():
        text = "".join(glyphs.space if category(c) == "Zs" else c for c in text)
    return escape(text, glyphs.newline)


def notes(decoding: LayerDecoding, glyphs: Glyphs) -> list[list[Span]]:
    """The legend, and where the text settles: one list of spans a line."""
    last, total = decoding.layer_count, len(decoding.final_row.ids)
    example, leaves = Span("so", "differs"), Span(glyphs.leaves, "note")
    if decoding.context == "own":
        return [
            [Span("Each row is a text of its layer's own: what the model cut off after that block writes.")],
            [Span("Tokens marked "), example, Span(f" are not in layer {last}'s text in this order; n/{total} are.")],
            [Span("A row leaves that text at "), leaves, Span(".")],
        ]
    lines = [
        [Span(f"Each row is what its layer would have said at every step of layer {last}'s text.")],
        [Span("Tokens marked "), example, Span(f" differ from layer {last}'s; n/{total} agree.")],
    ]
    if decoding.settles_at:
        lines.append([Span(settling(decoding.settles_at, glyphs))])
    return lines


def settling(settles_at: Sequence[int], glyphs: Glyphs) -> str:
    """For how many tokens each layer is the first from which on the choice no longer changes.

    >>> settling([12, 1, 12], Glyphs())
    'Settles at layer 1 ×1, 12 ×2 (the first from which a token no longer changes).'
    """
    counts = sorted(Counter(settles_at).items())
    where = ", ".join(f"{layer} {glyphs.times}{count}" for layer, count in counts)
    return f"Settles at layer {where} (the first from which a token no longer changes)."
