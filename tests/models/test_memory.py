"""The memory that is free: the machine's, or what a container is left of it, by either kind of control groups."""

import pytest

from conftest import random_gpt2
from layer_decoding import beam_search
from layer_decoding.errors import LayerDecodingError
from layer_decoding.models import sizes

MB = 10**6
UNLIMITED_IN_V1 = 9223372036854771712


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with 8,000 MB free, whose control groups a test then writes: machine(cgroup line, {file: content})."""
    monkeypatch.setattr(sizes, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(sizes, "_GROUPS", tmp_path / "groups")
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 7812500 kB\n")

    def groups(lines, folders):
        (tmp_path / "proc" / "self" / "cgroup").write_text(lines)
        for folder, (limit, used, cache) in folders.items():
            where = tmp_path / "groups" / folder
            where.mkdir(parents=True, exist_ok=True)
            is_v1 = folder.startswith("memory")
            names = sizes._IN_V1 if is_v1 else sizes._IN_V2
            (where / names[0]).write_text(f"{limit}\n")
            (where / names[1]).write_text(f"{used}\n")
            stat = f"cache 5\ninactive_file {7 if is_v1 else cache}\n" + (
                f"total_inactive_file {cache}\n" if is_v1 else ""
            )
            (where / "memory.stat").write_text(stat)

    return groups


@pytest.mark.parametrize(
    "lines, folders, free",
    [
        ("0::/\n", {}, 8000 * MB),
        ("0::/\n", {"": ("max", 600 * MB, 0)}, 8000 * MB),
        ("0::/\n", {"": (1000 * MB, 600 * MB, 0)}, 400 * MB),
        ("0::/\n", {"": (1000 * MB, 600 * MB, 250 * MB)}, 650 * MB),
        ("0::/a/b\n", {"a/b": ("max", 100 * MB, 0), "a": (1000 * MB, 700 * MB, 0)}, 300 * MB),
        ("0::/a/b\n", {"a/b": (500 * MB, 100 * MB, 0), "a": (1000 * MB, 900 * MB, 0)}, 100 * MB),
        ("0::/a\n", {"a": (500 * MB, 501 * MB, 0)}, 0),
        ("0::/of/the/host\n", {"": (1000 * MB, 600 * MB, 0)}, 400 * MB),
        ("4:cpu:/\n3:memory:/x\n", {"memory/x": (1000 * MB, 600 * MB, 50 * MB)}, 450 * MB),
        ("4:cpu,memory:/docker/1\n", {"memory": (1000 * MB, 600 * MB, 0)}, 400 * MB),
        ("3:memory:/\n0::/\n", {"memory": (UNLIMITED_IN_V1, 600 * MB, 0)}, 8000 * MB),
        ("3:cpu:/\n", {"memory": (1000 * MB, 600 * MB, 0)}, 8000 * MB),
    ],
)
def test_what_is_free_in_a_container(lines, folders, free, machine, tiny):
    machine(lines, folders)
    assert sizes.free_bytes(tiny) == free


@pytest.mark.usefixtures("machine")
def test_a_machine_without_control_groups(tiny):
    assert sizes.free_bytes(tiny) == 8000 * MB


@pytest.mark.parametrize("folder, line", [("", "0::/\n"), ("memory", "9:memory:/\n")])
def test_beams_beyond_the_container_are_refused(folder, line, machine):
    """400 beams of 60 tokens on a model of 40 layers 128 wide: 983 MB of keys and values."""
    model = random_gpt2(n_embd=128, n_layer=40)
    machine(line, {folder: (1000 * MB, 100 * MB, 0)})
    with pytest.raises(LayerDecodingError, match=r"too small for 400 beams.*= 1\.0 GB"):
        beam_search(model, [1, 2], 58, num_beams=400)
    machine(line, {folder: (2000 * MB, 100 * MB, 0)})
    sizes.check_memory(model, 400, 60)
