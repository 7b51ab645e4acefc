"""The package's tree with a phrase a file, and who may import whom, as Markdown: run this and read.

python tests/tools/make_tree.py

A phrase is the first line of a file's docstring, so that a page says of a file what the file says of itself.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "gpt2_multi_layers_decoding"
PACKAGE = SOURCE / "layer_decoding"
WITHOUT_DOCSTRING = {
    "files/page/page.css": "how the page looks, on a screen and on paper",
    "files/page/page.html.j2": "its elements, with what a reader sees before any script runs",
    "files/page/table.js": "what lies behind a cell, arrow keys",
    "files/page/paper.js": "the table cut into panels where it is printed",
    "files/page/start.js": "the end of its script, where all of it begins",
    "files/page/switch.js": "another measure, another lens, or where the lenses differ",
    "files/page/text.js": "the text in the shades of another layer, a token's number",
    "files/page/why.js": "the bars of the column pointed at",
    "mini_gpt2/README.md": "the model's card: data, recipe, score, limits",
    "mini_gpt2/config.json": "its shape",
    "mini_gpt2/generation_config.json": "its special tokens",
    "mini_gpt2/lens.safetensors": "a linear lens that was fitted to it",
    "mini_gpt2/model.safetensors": "its weights",
    "mini_gpt2/sources.tsv": "every book that it has read",
    "mini_gpt2/tokenizer.json": "its vocabulary and merges",
    "mini_gpt2/tokenizer_config.json": "how they are used",
    "py.typed": "says that the package is annotated",
}
NO_ROOM = {"mini_gpt2": "the bundled model"}


def phrase(path: Path) -> str:
    """What a file is for, in a phrase without a full stop.

    Raises:
        KeyError: it has no docstring and no phrase here.
    """
    if path.suffix != ".py":
        return WITHOUT_DOCSTRING[path.relative_to(PACKAGE).as_posix()]
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if docstring is None:
        raise KeyError(f"{path} has no docstring")
    first = docstring.splitlines()[0].rstrip(".")
    return first[0].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first


def files_of(folder: Path) -> list[Path]:
    """A folder's own files, by name; what Python leaves there is none of them."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name != "__init__.py")


def tree() -> str:
    """The scripts, then the package room by room, as a Markdown list."""
    lines = [f"- `{path.name}` {phrase(path)}" for path in sorted(SOURCE.glob("*.py"))]
    return "".join(f"{line}\n" for line in [*lines, *branch(PACKAGE)])


def branch(folder: Path) -> Iterator[str]:
    """The lines of a folder: its own, those of its files, then those of the folders in it, indented."""
    about = NO_ROOM[folder.name] if folder.name in NO_ROOM else phrase(folder / "__init__.py")
    yield f"- `{folder.name}/` {about}"
    yield from (f"  - `{path.name}` {phrase(path)}" for path in files_of(folder))
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"):
        yield from (f"  {line}" for line in branch(inner))


def files_in(tree: str) -> Iterator[str]:
    """The paths in a tree, relative to the source folder: of the package's files and of the scripts."""
    folders: list[str] = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split("`")[1]
        folders[depth:] = [name]
        if not name.endswith("/"):
            yield "".join(folders[: depth + 1])


def import_table() -> str:
    """What `test_rooms.py` holds every import to, as a Markdown table."""
    sys.path[:0] = [str(HERE.parent), str(SOURCE)]
    from test_rooms import MAY_IMPORT, ONLY_FOR_A_TYPE

    lines = ["| room | may import |", "|---|---|"]
    for room, others in MAY_IMPORT.items():
        typed = [f"{other} for a type" for one, other in sorted(ONLY_FOR_A_TYPE) if one == room]
        listed = [other for other in MAY_IMPORT if other in others]
        lines.append(f"| {room} | {', '.join([*listed, *typed]) or 'nothing'} |")
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(tree(), import_table(), sep="\n", end="")
