"""Files written whole or not at all, and refused before any work."""

import os
import stat
from pathlib import Path

import pytest

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.files.saving import check_targets, save

WRITERS = {".json": lambda: b"{}\n"}


def test_a_new_file_and_a_replaced_one(tmp_path):
    target = tmp_path / "a.JSON"
    save(target, WRITERS)
    assert target.read_bytes() == b"{}\n"
    save(target, {".json": lambda: b"[]\n"})
    assert target.read_bytes() == b"[]\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_keeps_pointing_where_it_did(tmp_path):
    target, link = tmp_path / "a.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    save(link, WRITERS)
    assert link.is_symlink()
    assert target.read_bytes() == b"{}\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("torn")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail(_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LayerDecodingError if isinstance(error, OSError) else type(error)):
        save(target, WRITERS)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_content_that_cannot_be_made_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")

    def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        save(target, {".json": fail})
    assert target.read_text() == "old"


def test_targets_are_checked_without_leaving_anything(tmp_path):
    target = tmp_path / "a.json"
    check_targets([target, target], [".json"])
    assert not list(tmp_path.iterdir())
    target.write_text("old")
    check_targets([target], [".json"])
    assert target.read_text() == "old"


@pytest.mark.parametrize("name", ["a.txt", "a", ".json", "json"])
def test_unknown_suffixes(tmp_path, name):
    with pytest.raises(UsageError, match=r"Cannot tell .* end it in \.json or \.csv"):
        check_targets([tmp_path / name], [".json", ".csv"])


def test_a_folder_that_is_not_there_and_one_in_the_files_place(tmp_path):
    with pytest.raises(LayerDecodingError, match=r"Cannot write '.*' \(No such file or directory\)"):
        check_targets([tmp_path / "no" / "a.json"], [".json"])
    (tmp_path / "dir.json").mkdir()
    with pytest.raises(LayerDecodingError, match="it is a folder"):
        check_targets([tmp_path / "dir.json"], [".json"])


def test_a_read_only_file(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    target.write_text("old")
    monkeypatch.setattr(os, "access", lambda *_: False)  # who runs as root may write everything
    with pytest.raises(LayerDecodingError, match="it is read-only"):
        check_targets([target], [".json"])


def test_a_link_to_itself(tmp_path):
    loop = tmp_path / "loop.json"
    loop.symlink_to(Path("loop.json"))
    with pytest.raises(LayerDecodingError, match="Cannot write"):
        check_targets([loop], [".json"])


# ---------------------------------------------------------------- what a file is besides its content


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "a.json"
    target.write_text("old")
    target.chmod(mode)
    save(target, WRITERS)
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"{}\n"


def test_nobody_else_may_read_a_private_file_while_it_is_written(tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    target.write_text("old")
    target.chmod(0o600)
    modes = []
    monkeypatch.setattr(os, "fsync", lambda file: modes.append(stat.S_IMODE(os.fstat(file).st_mode)))
    save(target, WRITERS)
    assert modes == [0o600]


def test_a_new_file_is_as_open_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        save(tmp_path / "a.json", WRITERS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_file_of_several_names_keeps_them(tmp_path):
    target, other = tmp_path / "a.json", tmp_path / "other"
    target.write_text("a longer text that was here before")
    other.hardlink_to(target)
    save(target, WRITERS)
    assert target.samefile(other)
    assert other.read_bytes() == b"{}\n"
    assert sorted(tmp_path.iterdir()) == [target, other]


def test_a_file_of_several_names_that_cannot_be_written_is_as_it_was(tmp_path, monkeypatch):
    target, other = tmp_path / "a.json", tmp_path / "other"
    target.write_text("old")
    other.hardlink_to(target)
    write, calls = Path.write_bytes, []

    def torn(self, content):
        write(self, content)
        calls.append(content)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(LayerDecodingError, match="No space left"):
        save(target, WRITERS)
    assert other.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [target, other]


@pytest.mark.parametrize("length", [250, 255])
def test_a_name_as_long_as_a_file_system_allows(tmp_path, length):
    target = tmp_path / ("n" * (length - 5) + ".json")
    check_targets([target], [".json"])
    save(target, WRITERS)
    assert target.read_bytes() == b"{}\n"


def test_processes_of_one_number_do_not_write_into_each_others_file(tmp_path, monkeypatch):
    """In two containers with one folder: while the first writes, the second begins and ends."""
    target, begun = tmp_path / "a.json", []

    def sync(_):
        if not begun:
            begun.append(True)
            save(target, {".json": lambda: b"the second\n"})
            assert target.read_bytes() == b"the second\n"

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    save(target, {".json": lambda: b"the first, which is longer\n"})
    assert target.read_bytes() == b"the first, which is longer\n"
    assert list(tmp_path.iterdir()) == [target]
