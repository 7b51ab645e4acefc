"""Who wrote a token: what each part of the model adds to its logit over another's, as bars up and down the layers."""

from collections.abc import Sequence

from layer_decoding.errors import UsageError
from layer_decoding.results.why import Contribution, Why
from layer_decoding.terminal.columns import Column, labelled, painted, prompt_lines, prose, side_by_side
from layer_decoding.terminal.pieces import Pieces, shown, token_texts
from layer_decoding.terminal.spans import Span, flush_right, pad, shorten
from layer_decoding.terminal.theme import Role, Terminal

_GAP = 2  # cells before a column
_MOST_BAR = 24  # cells of the longest bar
_MOST_TOKEN = 16  # cells: a longer token is shortened
_NAMED = 3  # of the largest parts, painted as such and named in a sentence
HELD_FIXED = (
    "Direct logit attribution (Elhage et al. 2021): the final norm divides by the size of the whole state, which is"
    " held as it is at this position. What a part adds is no proof of a cause: others might have added it instead."
)


def render_why(why: Why, prompt: str, pieces: Pieces, terminal: Terminal) -> list[str]:
    """The prompt, what was written after it, a bar a part from the embeddings up, and the sum; a string a line.

    Raises UsageError where the terminal is too narrow for the parts and their numbers.
    """
    token, against = (
        shorten(text, _MOST_TOKEN, terminal.glyphs.dots)
        for text in token_texts([why.token, why.against], pieces, terminal)
    )
    lines = prompt_lines(prompt, terminal)
    if why.written_ids:
        so_far = shown("".join(pieces.of(why.written_ids)), terminal)
        lines += labelled(pad("Then:", len("Prompt:")), [Span(so_far)], terminal)
    heading = [f"Step {why.step}: the logit of", f" '{token}'", " less that of", f" '{against}'", ", part by part"]
    lines += ["", *prose([Span(text, "heading", glued=text.startswith(" '")) for text in heading], terminal)]
    lines += [*_bars(why, terminal), ""]
    for note in _notes(why, token, against):
        lines += prose(note, terminal)
    return lines


def largest(parts: Sequence[Contribution]) -> list[Contribution]:
    """The parts that add or take most, the largest first."""
    return sorted(parts, key=lambda part: -abs(part.logit))[:_NAMED]


def signed(logit: float) -> str:
    """A number of logits.

    >>> signed(0.0412), signed(-1.5), signed(-0.0001)
    ('+0.041', '-1.500', '+0.000')
    """
    return f"{round(logit, 3) + 0.0:+.3f}"


def _bars(why: Why, terminal: Terminal) -> list[str]:
    """A line a part: its name, its number, a bar to the left of the middle where it is for the other token."""
    roles: list[Role] = ["chosen" if part in largest(why.parts) else "plain" for part in why.parts]
    names = [[Span(part_name(part, why), role)] for part, role in zip(why.parts, roles, strict=True)]
    numbers = [[Span(signed(part.logit), role)] for part, role in zip(why.parts, roles, strict=True)]
    columns = [Column(names, gap=0), Column(numbers, _GAP, right=True)]
    needed = sum(column.width for column in columns)
    if terminal.width is not None and terminal.width < needed:
        raise UsageError(f"The parts need {needed} cells, the width is {terminal.width}; make it wider.")
    cells = _MOST_BAR if terminal.width is None else min(_MOST_BAR, (terminal.width - needed - _GAP - 1) // 2)
    if cells > 0:
        most = max(abs(part.logit) for part in why.parts)
        bars = [_bar(part.logit / most if most else 0.0, cells, terminal) for part in why.parts]
        columns.append(Column([[Span(bar, role)] for bar, role in zip(bars, roles, strict=True)], _GAP))
    return [painted(line, terminal) for line in side_by_side(columns)]


def part_name(part: Contribution, why: Why) -> str:
    """A part's name; of an attention that is split, what it adds whatever its heads say is its bias."""
    split = any(other.head is not None and other.layer == part.layer for other in why.parts)
    return f"{part.name}, bias" if split and part.part == "attention" and part.head is None else part.name


def _bar(share: float, cells: int, terminal: Terminal) -> str:
    """A bar of a share from -1 to 1 of so many cells, from the middle to the left or to the right."""
    bar = terminal.glyphs.blocks[-1] * round(abs(share) * cells)
    middle = terminal.glyphs.leaves
    return f"{flush_right(bar if share < 0 else '', cells)}{middle}{bar if share > 0 else ''}"


def _notes(why: Why, token: str, against: str) -> list[list[Span]]:
    """The largest parts, how to read the bars, and the sum."""
    named = ", ".join(f"{part_name(part, why)} {signed(part.logit)}" for part in largest(why.parts))
    bars = [f"Largest: {named}. To the right for", f" '{token}'", ", to the left for", f" '{against}'", "."]
    said = [HELD_FIXED, sum_sentence(why)]
    return [[Span(text, glued=text.startswith(" '")) for text in bars], *([Span(text)] for text in said)]


def sum_sentence(why: Why) -> str:
    """What the parts add up to, what the model itself says, and what is missing."""
    cap = "" if why.soft_cap is None else f", before the soft cap of {why.soft_cap:g} that it puts over them"
    return (
        f"The parts add up to {signed(why.total)}; the model's own difference is {signed(why.difference)}{cap};"
        f" missing {abs(why.missing):.0e}."
    )
