"""What a terminal shows as an SVG: text that can be selected, in cells as wide as the terminal's; frames that move.

A picture has its own background, fetches nothing and runs nothing, since a page shows it as it shows a photograph.
What stands in a place from one frame to another is written once, hidden until its frame comes. That is said by the
style alone, and only where motion is welcome, so whatever knows no motion shows the last frame.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape as escape_markup
from itertools import groupby

from layer_decoding.files.runs import Run, runs_of
from layer_decoding.terminal.hidden import escape
from layer_decoding.terminal.looks import Look, read_painted
from layer_decoding.terminal.spans import shorten
from layer_decoding.terminal.theme import COLOUR, MINIMUM_WIDTH, PLAIN, Terminal, in_blues

_SECONDS, _FRAME_SECONDS = 5, 0.24  # of all frames at most: longer motion would need a way to stop it; of one
_MOST_FRAMES, _MOST_SIGNS = 50, 50_000  # what is drawn anew in every frame takes about 10 bytes a sign
_CELL, _LINE, _BASELINE = 12, 24, 18  # for letters 20 high: nearly every monospace font is 0.6 as wide
_MARGIN, _BAR = 18, 44  # around the lines, above them
_SCALE = 0.7  # letters are 14 high where there is room for all of a picture
_INK, _PAPER = "#d4d4d4", "#1e1e1e"
_FONTS = 'ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace'
_PALETTE = (
    *("#000000", "#cd3131", "#0dbc79", "#e5e510", "#2472c8", "#bc3fbc", "#11a8cd", "#e5e5e5"),
    *("#666666", "#f14c4c", "#23d18b", "#f5f543", "#3b8eea", "#d670d6", "#29b8db", "#ffffff"),
)
_CUBE = (0, 95, 135, 175, 215, 255)  # the steps of red, green and blue in xterm's colours from 16 to 231
_TITLE_CELL, _BUTTONS_ROOM = 10, 90
_BUTTONS = ("#ff5f57", "#febc2e", "#28c840")


def terminal_drawn(width: int, colour: str = "auto") -> Terminal:
    """The terminal of a picture: dark, and in colour unless there is never to be any."""
    return Terminal(PLAIN if colour == "never" else in_blues(COLOUR), width=max(MINIMUM_WIDTH, width))


def frames_before(lines: Sequence[str]) -> int:
    """How many frames may come before the last one of a picture that grows, for it to stay small."""
    signs = sum(len(read_painted(line)) for line in lines)
    return min(_MOST_FRAMES, max(1, _MOST_SIGNS // max(1, signs)))


def picture(frames: Sequence[Sequence[str]], title: str) -> bytes:
    """The content of an SVG file: painted lines in a window, frame after frame; the last one stays.

    Each frame is shown for the same time, whatever it took: a picture is the same on every machine.
    """
    painted = [[read_painted(line) for line in lines] for lines in frames]
    columns = max(MINIMUM_WIDTH, *(sum(sign.cells for sign in line) for lines in painted for line in lines))
    width, height = 2 * _MARGIN + _CELL * columns, _BAR + _LINE * max(map(len, painted)) + _MARGIN
    staying, passing = runs_of(painted)
    runs = [*passing, *staying]
    looks = {
        look: f"l{number}" for number, look in enumerate(dict.fromkeys(run.look for run in runs)) if look != Look()
    }
    title = escape(title)
    heading = shorten(title, (width - 2 * _BUTTONS_ROOM) // _TITLE_CELL, "…")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width * _SCALE:.0f}"'
        f' height="{height * _SCALE:.0f}" xml:space="preserve">',
        f"<title>{escape_markup(title)}</title>",
        "<style>",
        *_style(looks),
        *_motion(runs, len(frames)),
        "</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="{_PAPER}" stroke="#555"/>',
        *(f'<circle cx="{22 + 22 * at}" cy="22" r="7" fill="{fill}"/>' for at, fill in enumerate(_BUTTONS)),
        f'<text x="{width / 2:g}" y="28" text-anchor="middle" id="title">{escape_markup(heading)}</text>',
        f'<g transform="translate({_MARGIN} {_BAR})">',
        *(_ground(run) for run in runs if _colours(run.look)[1] != _PAPER),
        *(_line([run], looks) for run in passing),
        '<g id="lines">',
        *(_line(list(line), looks) for _, line in groupby(staying, key=lambda run: run.row)),
        "</g></g></svg>\n",
    ]
    return "\n".join(parts).encode()


def _line(runs: Sequence[Run], looks: dict[Look, str]) -> str:
    """Runs of one line as one text, so that a reader copies them as a line."""
    spans = "".join(_span(run, looks) for run in runs)
    return f'<text y="{_LINE * runs[0].row + _BASELINE}">{spans}</text>'


def _span(run: Run, looks: dict[Look, str]) -> str:
    """A run, put where it stands and fitted into its cells; blanks at its ends are for copying alone."""
    signs = run.text.strip(" ")
    if not signs:
        return run.text
    left, right = run.text.split(signs)
    column, cells = run.column + len(left), run.cells - len(left) - len(right)
    # Signs that are borrowed are as wide as their font likes: they are stretched, the others moved apart.
    stretched = ' lengthAdjust="spacingAndGlyphs"' if run.kind == "borrowed" else ""
    names = " ".join(filter(None, (looks.get(run.look), _time(run))))
    named = f' class="{names}"' if names else ""
    place = f'x="{_CELL * column}" textLength="{_CELL * cells}"{stretched}{named}'
    return f"{left}<tspan {place}>{escape_markup(signs, quote=False)}</tspan>{right}"


def _ground(run: Run) -> str:
    """The background of a run."""
    named = f' class="{_time(run)}"' if _time(run) else ""
    place = f'x="{_CELL * run.column}" y="{_LINE * run.row}" width="{_CELL * run.cells}" height="{_LINE}"'
    return f'<rect {place} fill="{_colours(run.look)[1]}"{named}/>'


def _time(run: Run) -> str:
    """The class of what is not there in every frame: what comes and stays, what goes again."""
    if run.end is None:
        return f"from{run.start}" if run.start else ""
    return f"gone at{run.start}-{run.end}"


def _style(looks: dict[Look, str]) -> Iterator[str]:
    """What is not of one element alone."""
    yield f"text{{font:20px {_FONTS};fill:{_INK};font-variant-ligatures:none;white-space:pre}}"
    yield f"#title{{font-size:{_TITLE_CELL / 0.6:g}px}}"
    yield "g rect{shape-rendering:crispEdges}"  # no seams between backgrounds
    yield "tspan{unicode-bidi:isolate}"  # text that runs from right to left stays in its cells
    for look, name in looks.items():
        rules = [f"fill:{_colours(look)[0]}"]
        rules += ["font-weight:bold"] * look.bold + ["text-decoration:underline"] * look.underlined
        yield f".{name}{{{';'.join(rules)}}}"


def _motion(runs: Iterable[Run], frames: int) -> Iterator[str]:
    """When what is not there in every frame is there. Without motion: the last frame."""
    times = sorted({(run.start, run.end or 0) for run in runs if _time(run)})
    if not times:
        return
    each = min(_FRAME_SECONDS, _SECONDS / (frames - 1))
    yield ".gone{visibility:hidden}"
    yield "@media(prefers-reduced-motion:no-preference){"
    yield "@keyframes hide{from,to{visibility:hidden}}@keyframes show{from,to{visibility:visible}}"
    for start, end in times:
        if end:
            yield f".at{start}-{end}{{animation:show {each * (end - start):.4g}s {each * start:.4g}s}}"
        else:
            yield f".from{start}{{animation:hide {each * start:.4g}s}}"
    yield "}"


def _colours(look: Look) -> tuple[str, str]:
    """The colours of a look's letters and of what is behind them."""
    ink = _INK if look.colour is None else _colour(look.colour)
    paper = _PAPER if look.background is None else _colour(look.background)
    if look.reversed:
        ink, paper = paper, ink
    return _mixed(ink, paper) if look.faint else ink, paper


def _colour(number: int) -> str:
    """One of xterm's 256 colours, as a style says it."""
    if number < len(_PALETTE):
        return _PALETTE[number]
    if number > 231:
        return f"#{8 + 10 * (number - 232):02x}" + f"{8 + 10 * (number - 232):02x}" * 2
    steps = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return "#" + "".join(f"{_CUBE[step]:02x}" for step in steps)


def _mixed(ink: str, paper: str) -> str:
    """Two parts of the ink and one of the paper."""
    pairs = [(int(ink[at : at + 2], 16), int(paper[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{(2 * one + other) // 3:02x}" for one, other in pairs)
