"""Make the README's outputs and pictures again, from real runs on the bundled model.

    python tests/make_readme.py            rewrite them all
    python tests/make_readme.py --check    exit 1 if a block is not what its command prints today

A block to make is a fenced block after a comment that holds its command:

    <!-- run: python multi_layer_decoding_demo.py --model mini --width 90 -->

A comment `<!-- picture: pictures/rows.svg: python … -->` draws the command's coloured output. Commands run in
the source folder. Pictures need `rich`, which comes with huggingface-hub.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "gpt2_multi_layers_decoding"
BLOCK = re.compile(r"<!-- run: (?P<command>.+?) -->\n```text\n(?P<output>.*?)```\n", re.DOTALL)
PICTURE = re.compile(r"<!-- picture: (?P<file>\S+): (?P<command>.+?) -->")


def output_of(command: str, colour: str = "never") -> str:
    """What a command prints on stdout."""
    words = shlex.split(command)
    words[0] = sys.executable
    environ = os.environ | {"PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [*words, f"--color={colour}", "--quiet"], cwd=SOURCE, env=environ, capture_output=True, check=True
    )
    return run.stdout.decode()


def remade(text: str) -> str:
    """The README with every block as its command prints it now."""
    return BLOCK.sub(
        lambda block: f"<!-- run: {block['command']} -->\n```text\n{output_of(block['command'])}```\n", text
    )


def draw(file: Path, command: str) -> None:
    """A command's coloured output as an SVG of a terminal window."""
    from rich.console import Console
    from rich.text import Text

    output = Text.from_ansi(output_of(command, "always"))
    width = max(line.cell_len for line in output.split("\n", allow_blank=True))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True, color_system="standard")
        console.print(output, soft_wrap=True)
    svg = console.export_svg(title=command, unique_id="rows")
    # Fonts of the reader's own: a picture that fetches nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    file.parent.mkdir(exist_ok=True)
    file.write_text(svg, encoding="utf-8")


def main() -> int:
    """Remake or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = remade(before)
    if args.check:
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    for picture in PICTURE.finditer(after):
        draw(SOURCE / picture["file"], picture["command"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
