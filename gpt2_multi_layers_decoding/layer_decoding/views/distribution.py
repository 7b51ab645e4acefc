"""What each setting draws from, as bars: before and after, the cut where it falls, and the nucleus along a text."""

import math

from wcwidth import width

from layer_decoding.results.sampling import NUCLEUS_SHARE, Distribution, Sample, TokenShare
from layer_decoding.results.settings import Setting
from layer_decoding.terminal.columns import prose, wrapped
from layer_decoding.terminal.pieces import Pieces, token_texts
from layer_decoding.terminal.spans import Span, pad, shorten
from layer_decoding.terminal.theme import Glyphs, Terminal
from layer_decoding.views.sampling import capitalised

_TOKEN_CELLS = 20
_PANEL_CELLS = 80  # where no width is known; a wider screen is not filled


def render_panel(distribution: Distribution, text: Sample, pieces: Pieces, terminal: Terminal) -> list[str]:
    """One setting: the distribution after the prompt, then how many tokens it kept along one of its texts."""
    heading = [Span(capitalised(distribution.setting.label), "heading"), Span(f": {kept(distribution)}")]
    lines = ["", *prose(heading, terminal)]
    lines += [part for line in _bars(distribution, pieces, terminal) for part in wrapped(line, terminal)]
    sentence, rows = nucleus_rows(text, distribution, pieces, terminal)
    lines += prose([Span(sentence, "note")], terminal)
    return lines + [part for line in rows for part in wrapped(line, terminal)]


def kept(distribution: Distribution) -> str:
    """How many tokens can be drawn, in a sentence."""
    total = f"{distribution.vocabulary:,}"
    if not distribution.setting.filters:
        return f"nothing is cut off, each of {total} tokens can be drawn."
    held = f"the model gives them {distribution.kept_probability:.1%}"
    return f"{distribution.kept_count:,} of {total} tokens can be drawn; {held}."


def _bars(distribution: Distribution, pieces: Pieces, terminal: Terminal) -> list[list[Span]]:
    """A line a token, its probability before and after beside each other, gaps and the cut between them."""
    glyphs = terminal.glyphs
    tokens = [token_label(share.id, pieces, terminal) for share in distribution.shares]
    token_cells, rank_cells = max(map(width, tokens)), len(f"{distribution.shares[-1].rank:,}")
    bar_cells = max(4, (_cells(terminal) - rank_cells - token_cells - 24) // 2)
    largest = max(max(share.before, share.after) for share in distribution.shares)
    title = f"{'':{rank_cells + token_cells + 4}}{'before':>7} {'':{bar_cells}}  {'after':>7}"
    lines = [[Span(title, "note")]]
    previous = 0
    for share, token in zip(distribution.shares, tokens, strict=True):
        if share.rank > previous + 1:
            lines.append([Span(f"  {glyphs.dots} {share.rank - previous - 1:,} more", "note")])
        if share.rank == distribution.kept_count + 1 and distribution.setting.filters:
            lines.append([Span(glyphs.rule * 4 + " cut " + glyphs.rule * (_cells(terminal) - 9), "heading")])
        label = f"  {share.rank:>{rank_cells},}  {pad(token, token_cells)}"
        before = f"{_percent(share.before)} {pad(bar(share.before / largest, bar_cells, glyphs), bar_cells)}"
        lines.append([Span(label), Span(before, "note"), Span(_after(share, largest, bar_cells, glyphs))])
        previous = share.rank
    rest = distribution.vocabulary - previous
    return [*lines, [Span(f"  {glyphs.dots} {rest:,} more", "note")]] if rest else lines


def _after(share: TokenShare, largest: float, cells: int, glyphs: Glyphs) -> str:
    """The right half of a token's line; nothing for one that cannot be drawn."""
    if not share.after:
        return f"  {'-':>7}"
    return f"  {_percent(share.after)} {bar(share.after / largest, cells, glyphs)}"


def nucleus_rows(
    text: Sample, distribution: Distribution, pieces: Pieces, terminal: Terminal
) -> tuple[str, list[list[Span]]]:
    """How many tokens could be drawn along a text: a sentence, and a bar a step, logarithmic up to the vocabulary."""
    setting, glyphs = distribution.setting, terminal.glyphs
    sizes = text.kept_counts if setting.filters else text.nucleus_sizes
    what = nucleus_name(setting)
    if len(sizes) > 1 and len(set(sizes)) == 1:
        return f"{what}: {sizes[0]:,} at every step, sure or not.", []
    tokens = [token_label(token, pieces, terminal) for token in text.ids]
    token_cells, size_cells = max(map(width, tokens)), len(f"{max(sizes):,}")
    bar_cells = max(4, _cells(terminal) - token_cells - size_cells - 6)
    lines = []
    for token, size in zip(tokens, sizes, strict=True):
        share = math.log(size + 1) / math.log(distribution.vocabulary + 1)
        lines.append(
            [Span(f"  {pad(token, token_cells)}  {size:>{size_cells},} "), Span(bar(share, bar_cells, glyphs))]
        )
    return f"{what}, bars on a logarithmic scale:", lines


def nucleus_name(setting: Setting) -> str:
    """What the bars along a text count."""
    if setting.filters:
        return "Tokens that can be drawn, along sample 1"
    return f"Fewest tokens that hold {NUCLEUS_SHARE:.0%}, along sample 1"


def bar(share: float, cells: int, glyphs: Glyphs) -> str:
    """A bar that fills a share of the cells, in eighths of a cell where the screen can show them; never empty above 0.

    >>> bar(0.5, 7, Glyphs())
    '███▌'
    """
    parts = max(1, round(share * cells * len(glyphs.blocks))) if share > 0 else 0
    whole, rest = divmod(parts, len(glyphs.blocks))
    return glyphs.blocks[-1] * whole + glyphs.blocks[rest - 1] * (rest > 0)


def token_label(token: int, pieces: Pieces, terminal: Terminal) -> str:
    """A token on its own, its leading space shown, cut off where it is long."""
    text = token_texts([token], pieces, terminal)[0]
    if text.startswith(" "):
        text = terminal.glyphs.space + text[1:]
    return shorten(text, _TOKEN_CELLS, terminal.glyphs.dots)


def _percent(share: float) -> str:
    """A probability in seven cells: 12.3%, or 0.02% where that would be 0.0%."""
    return f"{f'{share:.1%}' if share >= 0.0005 else f'{100 * share:.1g}%':>7}"


def _cells(terminal: Terminal) -> int:
    """The width of a panel."""
    return min(terminal.width or _PANEL_CELLS, _PANEL_CELLS)
