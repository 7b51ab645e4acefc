"""The walls of the house: which room may import which, read off the imports, and where torch may be."""

import ast
import subprocess
import sys

import pytest

from conftest import SOURCE

PACKAGE = SOURCE / "layer_decoding"
MAY_IMPORT = {
    "__main__": set(),
    "errors": set(),
    "layers": set(),
    "results": {"layers", "errors"},
    "terminal": {"errors"},
    "models": {"layers", "errors"},
    "lens": {"models", "layers", "errors"},
    "decoding": {"lens", "models", "results", "layers", "errors"},
    "views": {"terminal", "results", "layers", "errors"},
    "files": {"views", "terminal", "results", "layers", "errors"},
    # The screen; what explores a model it is given.
    "exploring": {"views", "files", "terminal", "results", "layers", "errors"},
    "cli": {"files", "models", "terminal", "layers", "errors"},
    "training": {"decoding", "lens", "models", "terminal", "layers", "errors"},  # lens: a lens is fitted here
    "teaching": {"cli", "terminal", "models", "errors"},
}
ONLY_FOR_A_TYPE = {("files", "models"), ("exploring", "models"), ("exploring", "decoding")}
WITHOUT_TORCH = ("errors", "layers", "results", "terminal", "views", "files", "exploring", "cli", "teaching", "models")
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(module):
    """The room of a module's path: its first part."""
    return module.parts[0].removesuffix(".py")


def rooms_imported(tree):
    """The rooms that a module imports anything from, wherever in it; what is only there for a type is left out."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("layer_decoding."):
            yield node.module.split(".")[1], id(node) in typing_only


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_room_imports_only_what_it_may(module):
    room, tree = room_of(module), ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    for other, is_type in rooms_imported(tree):
        allowed = other in MAY_IMPORT[room] | {room} or ((room, other) in ONLY_FOR_A_TYPE and is_type)
        assert allowed, f"{module} imports {other}"


@pytest.mark.parametrize("module", [module for module in MODULES if module.name == "__init__.py"], ids=str)
def test_a_room_opens_with_a_sentence_and_nothing_else(module):
    (sentence,) = ast.parse((PACKAGE / module).read_text(encoding="utf-8")).body
    assert isinstance(sentence.value.value, str)


def test_no_room_is_crowded():
    for room in {module.parent for module in MODULES}:
        files = [module for module in MODULES if module.parent == room and module.name != "__init__.py"]
        assert len(files) <= 13, room


def test_the_text_side_needs_no_torch():
    """A fresh process imports every file of it."""
    side = [module for module in MODULES if room_of(module) in WITHOUT_TORCH and module.name != "__init__.py"]
    names = [".".join(("layer_decoding", *module.with_suffix("").parts)) for module in side]
    code = "; ".join([*(f"import {name}" for name in names), "import sys; sys.exit('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE).returncode == 0


def test_the_public_names_are_in_dir():
    import layer_decoding

    assert set(layer_decoding.__all__) <= set(dir(layer_decoding))
    assert all(hasattr(layer_decoding, name) for name in layer_decoding.__all__)
