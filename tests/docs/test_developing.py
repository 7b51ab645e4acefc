"""What the page for developers says of the house is so: every file with a phrase, every wall."""

import make_pages
import make_tree

MADE = {
    made["what"]: made["text"]
    for made in make_pages.MADE.finditer((make_pages.GUIDE / "developing.md").read_text(encoding="utf-8"))
}


def test_the_tree_holds_every_file_and_nothing_else():
    package = {path for path in make_tree.PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    scripts = set(make_tree.SOURCE.glob("*.py"))
    there = {path.relative_to(make_tree.SOURCE).as_posix() for path in package | scripts if path.name != "__init__.py"}
    named = list(make_tree.files_in(MADE["tree"]))
    assert sorted(named) == sorted(there)


def test_its_phrases_are_what_the_files_say_of_themselves():
    assert MADE["tree"] == make_tree.tree()


def test_the_table_of_imports_is_the_one_that_is_tested():
    assert MADE["imports"] == make_tree.import_table()
