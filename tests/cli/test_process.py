"""How a script's process begins and ends: in processes of their own, which is where it shows."""

import os
import subprocess
import sys

import pytest
import torch

from conftest import SOURCE
from layer_decoding.cli.process import use_one_thread

SWALLOWED = """
import os, signal, sys
import multi_layer_decoding_demo as script
from layer_decoding.models import loading

def load_model(*_, **__):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        pass  # as a library's import may do
    raise ValueError("a broken model")

loading.load_model = load_model
sys.exit(script.main(["--model", "mini"]))
"""
EARLY = """
import os, signal
from layer_decoding.cli.process import begin
begin()
try:
    os.kill(os.getpid(), signal.SIGINT)
finally:
    print("went on")
"""
IMPORTED = """
import signal
before = signal.getsignal(signal.SIGINT)
import layer_decoding.cli.commands, multi_layer_decoding_demo
assert signal.getsignal(signal.SIGINT) is before
"""
LEFT = """
import atexit, sys
from layer_decoding.cli.process import leave
atexit.register(lambda: print("told"))
print("written")
sys.stderr.write("and this")
leave(7)
"""
KEPT = """
from pathlib import Path
from layer_decoding.cli.process import keep_freed_memory
keep_freed_memory()
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
before = pages()
step = bytearray(b"x") * 2**24
del step
print((pages() - before) * 4096 > 2**23)
"""

GARBAGE = """
import gc
from layer_decoding.cli.process import looking_for_no_garbage
assert gc.get_freeze_count() == 0
with looking_for_no_garbage():
    assert not gc.isenabled()
assert gc.isenabled()
assert gc.get_freeze_count() > 0  # what was there is not looked at again
gc.unfreeze()
gc.disable()
with looking_for_no_garbage():
    pass
assert not gc.isenabled()  # as it was
"""


def python(code, **environ):
    """Run a few lines of Python in the source folder."""
    environ = {name: value for name, value in (os.environ | environ).items() if value}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("code", [SWALLOWED, EARLY], ids=["while loading", "while importing"])
def test_ctrl_c_ends_at_once_where_there_is_nothing_to_keep(code):
    done = python(code)
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.endswith("\nInterrupted.\n")
    assert "Traceback" not in done.stderr


def test_who_imports_the_package_keeps_the_own_ctrl_c():
    assert python(IMPORTED).returncode == 0


def test_what_the_libraries_make_is_not_taken_for_garbage():
    done = python(GARBAGE)
    assert done.returncode == 0, done.stderr


def test_leaving_writes_everything_and_tells_who_asked():
    done = python(LEFT)
    assert (done.returncode, done.stdout, done.stderr) == (7, "written\ntold\n", "and this")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory")
@pytest.mark.parametrize("asked, kept", [("", "True"), ("131072", "False")])
def test_freed_memory_is_kept_unless_the_reader_says_otherwise(asked, kept):
    done = python(KEPT, MALLOC_TRIM_THRESHOLD_=asked)
    assert done.stdout.strip() == kept, done.stderr


@pytest.mark.parametrize(
    "parameters, asked, threads", [(11_705_856, None, 1), (124_439_808, None, 2), (11_705_856, "2", 2)]
)
def test_a_small_model_has_one_thread_unless_the_reader_says_otherwise(monkeypatch, parameters, asked, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        use_one_thread(parameters)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
