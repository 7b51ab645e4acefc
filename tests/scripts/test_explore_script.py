"""The explorer's script: keys played without a screen, what is refused, and a real terminal left as it was."""

import builtins
import json
import os
import re
import select
import shlex
import subprocess
import sys
import time

import pytest

import multi_layer_decoding_demo as greedy
import multi_layer_explore_demo as demo
from conftest import SOURCE
from layer_decoding.cli.input import DEFAULT_PROMPT

MINI = ("--model", "mini", "--quiet")
PATIENCE = 90  # seconds until a run that hangs is given up


def printed(capsys, main, *argv):
    assert main([*argv]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def loaded_once(mini, monkeypatch):
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: mini)


def test_the_json_is_the_greedy_scripts_and_its_text(capsys):
    explored = json.loads(printed(capsys, demo.main, *MINI, "--max-new-tokens", "6", "--script", "g up", "--json"))
    decoded = json.loads(printed(capsys, greedy.main, *MINI, "--max-new-tokens", "6", "--json"))
    assert explored.pop("text_ids") == decoded["rows"][-1]["ids"]
    assert explored == decoded


def test_a_taken_word_is_in_the_text_ids(capsys):
    document = json.loads(printed(capsys, demo.main, *MINI, "--script", "space space up 2 g", "--json"))
    assert document["rows"][10]["candidates"][2][1]["id"] == document["text_ids"][2]
    assert len(document["text_ids"]) == document["max_new_tokens"] == 20


def test_the_table_is_the_greedy_scripts(capsys):
    """Also: layers chosen, a measure, and the command that prints it."""
    options = [*MINI, "--layers", "3,6", "--width", "80", "--max-new-tokens", "5"]
    explored = printed(capsys, demo.main, *options, "--script", "g m m")
    decoded = printed(capsys, greedy.main, *options, "--view", "table", "--measure", "entropy")
    assert explored.startswith(decoded)
    assert "Step 6, layer 12" in explored
    assert max(map(len, explored.splitlines())) <= 80


def test_nothing_written_is_a_board_too(capsys):
    shown = printed(capsys, demo.main, "Hello", *MINI, "--script", "k o")
    assert shown.startswith("Prompt: Hello\n\nNothing is written yet.\n\nStep 1, layer 11\n")
    assert "Layer 11's own text from step 1:" in shown
    document = json.loads(printed(capsys, demo.main, "Hello", *MINI, "--script", "", "--json"))
    assert (document["text_ids"], document["rows"][0]["ids"], document["max_new_tokens"]) == ([], [], 0)


def test_what_keys_have_to_say_goes_to_stderr(capsys):
    assert demo.main(["--model", "mini", "--script", "x backspace n c"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-4] == "This is the only branch; backspace takes its tokens back."
    assert said[-2] == "Read by the linear lens."
    assert shlex.split(said[-1])[-1] == DEFAULT_PROMPT


def test_a_script_needs_no_textual(capsys, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] in ("textual", "rich"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "Step 2" in printed(capsys, demo.main, *MINI, "--script", "space")


class Tty:
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self):
        """Yes."""
        return True


def pretend_a_terminal(monkeypatch, term="xterm-256color"):
    """In the test itself: between its phases pytest puts its own streams back."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, Tty(getattr(sys, name)))
    monkeypatch.setenv("TERM", term)


def test_no_terminal_is_a_usage_error(capsys):
    assert demo.main([*MINI]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence == (
        "error: The explorer needs a terminal to itself, and standard input is none; start it in one, or play keys"
        " without a screen (--script)."
    )


def test_a_dumb_terminal_is_none(capsys, monkeypatch):
    pretend_a_terminal(monkeypatch, "dumb")
    assert demo.main([*MINI]) == 2
    assert "this one is dumb" in capsys.readouterr().err


def test_without_textual_a_sentence_says_what_to_install(capsys, monkeypatch):
    pretend_a_terminal(monkeypatch)
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    assert demo.main([*MINI]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"error: The explorer needs the package textual, .* pip install textual\.", sentence)


@pytest.mark.parametrize(
    "argv, said",
    [
        (["--script", "space spce"], r"'spce' in the script is no key"),
        (["--json"], r"JSON is of a board that keys led to; say which \(--script\)"),
        (["", "--script", "g"], "The prompt is empty"),
        (["a " * 2000, "--script", "g"], r"prompt has \d+ tokens"),
        (["--script", "g", "--layers", "13"], "Layer 13 is out of range"),
    ],
)
def test_what_is_refused(argv, said, capsys):
    assert demo.main([*MINI, *argv]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert re.search(said, sentence)


def test_the_help_fits(capsys):
    lines = printed(capsys, demo.main, "--help").splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


# ---------------------------------------------------------------- a terminal of its own


class OnTerminal:
    """The explorer on a pseudo-terminal; what it writes is kept as it comes."""

    def __init__(self, *options):
        termios = pytest.importorskip("termios")
        fcntl = pytest.importorskip("fcntl")
        self.ours, self.theirs = os.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, (24).to_bytes(2, "little") + (80).to_bytes(2, "little") + bytes(4))
        self.settings = lambda: termios.tcgetattr(self.theirs)
        self.before, self.output = self.settings(), ""
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, str(SOURCE / "multi_layer_explore_demo.py"), "--model", "mini", *options],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            env=environment | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"},
            start_new_session=True,
        )

    def read_until(self, sign):
        """Take what is written until a sign is among it, or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while sign not in self.output and time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.output += os.read(self.ours, 1 << 16).decode(errors="replace")
            elif self.process.poll() is not None:
                break
        assert sign in self.output, self.output[-2000:]

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def end(self):
        """Its exit code, all it wrote read."""
        code = self.process.wait(PATIENCE)
        while select.select([self.ours], [], [], 0.1)[0]:
            self.output += os.read(self.ours, 1 << 16).decode(errors="replace")
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def run_on_terminal():
    started = []

    def run(*options):
        started.append(OnTerminal(*options))
        return started[-1]

    yield run
    for terminal in started:
        terminal.kill()


@pytest.mark.parametrize("keys, code", [("q", 0), ("\x03", 130)], ids=["q", "Ctrl-C"])
def test_a_terminal_is_left_as_it_was(run_on_terminal, keys, code):
    pytest.importorskip("textual")
    terminal = run_on_terminal()
    terminal.read_until("q leave")
    terminal.press("  ")
    terminal.read_until("Step 3,")
    terminal.press(keys)
    assert terminal.end() == code, terminal.output[-2000:]
    assert terminal.settings() == terminal.before
    left = terminal.output.rpartition("\x1b[?1049l")[2]  # what is written after the full screen
    left = re.sub(r"\x1b\[[0-9;]*m", "", left)
    assert "\x1b[?25h" in terminal.output
    assert "Prompt: " + DEFAULT_PROMPT in left
    assert "--max-new-tokens 2 --view table" in left
    assert ("Interrupted." in left) == (code == 130)
    assert "Traceback" not in terminal.output


def test_the_lens_that_was_fitted_to_the_model_is_a_key_away(capsys):
    assert demo.main(["--model", "mini", "--script", "space n", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["layer_lens"] == "linear"
