"""What only a process of its own can show: signals, pipes, a pseudo-terminal, and what is imported when.

Each run costs seconds of imports, so the plain ones run side by side, and each checks several things.
"""

import io
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from wcwidth import wcwidth

import multi_layer_decoding_demo as demo
from conftest import SOURCE
from layer_decoding.cli.progress import LiveRows
from layer_decoding.terminal.theme import COLOUR, screen_size, terminal_of

fcntl = pytest.importorskip("fcntl", reason="pseudo-terminals are for Unix")
termios = pytest.importorskip("termios")

SCRIPT = SOURCE / "multi_layer_decoding_demo.py"
DEMO = [sys.executable, str(SCRIPT), "--model", "mini"]
LINES, COLUMNS = 30, 80
PATIENCE = 60  # seconds until a run that hangs is given up; none is waited for when all is well


def environment(**settings):
    """The tests' own environment without what would change colours, widths or buffering."""
    dropped = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED", "PYTHONIOENCODING"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "PYTHONUTF8": "1"} | settings


def start(command, **options):
    """A process with both outputs kept."""
    options = {"env": environment(), "stdin": subprocess.DEVNULL} | options
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def end(process):
    """Exit code, stdout and stderr of a process when it is done."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


# ---------------------------------------------------------------- imports


def test_help_and_usage_errors_come_before_torch():
    check = """
import sys
import multi_layer_decoding_demo as demo
assert demo.main(["--help"]) == 0
assert demo.main(["--version"]) == 0
assert demo.main(["--layers", "7-2"]) == 2
assert demo.main(["--max-new-tokens", "0"]) == 2
assert demo.main([""]) == 2
heavy = {"torch", "transformers", "tokenizers", "numpy", "huggingface_hub", "shtab"} & set(sys.modules)
assert not heavy, heavy
"""
    code, out, err = end(start([sys.executable, "-c", check], cwd=SOURCE, env=environment(COLUMNS="200")))
    assert code == 0, err
    assert err.count("error: ") == len(err.splitlines()) == 3
    help_text = out[: out.rindex("\n", 0, -1)].splitlines()  # the last line is the version
    assert len(help_text) <= 50
    assert max(map(len, help_text)) <= 80
    assert "examples:" in help_text


# ---------------------------------------------------------------- pipes and files


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The runs that need no watching, started together so that they import side by side."""
    folder = tmp_path_factory.mktemp("shell")
    os.mkfifo(folder / "fifo")
    demo = shlex.join(DEMO)
    commands = {
        "closed pipe": f"set -o pipefail; printf 'Once upon' | {demo} --quiet --max-new-tokens 2 | true",
        "full disk": f"{demo} --max-new-tokens 2 <&- >/dev/full",
        "ascii": f"printf 'café 👩\\n' > fifo & PYTHONUTF8=0 PYTHONIOENCODING=ascii {demo} --max-new-tokens 2 < fifo",
    }
    runs = {name: start(["bash", "-c", command], cwd=folder) for name, command in commands.items()}
    yield runs
    for run in runs.values():
        run.kill()


def test_a_pipe_closed_early_is_no_failure(runs):
    assert end(runs["closed pipe"]) == (0, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_one_sentence(runs):
    """Also: stdin closed, and the script called by its path from another folder."""
    code, out, err = end(runs["full disk"])
    assert (code, out) == (1, "")
    *notices, sentence = err.splitlines()
    assert sentence.startswith("error: The output cannot be written: No space left on device")
    assert len(notices) == 3, err


def test_a_stdout_of_ascii_and_a_prompt_from_a_fifo(runs):
    """Also: of the libraries' warnings nothing reaches the reader, on neither stream."""
    code, out, err = end(runs["ascii"])
    assert code == 0, err
    assert out.isascii()
    assert out.startswith("Prompt: caf\\xe9 \\U0001f469\n\nLayer 1:")
    assert [line.partition(" ")[0] for line in err.splitlines()] == ["Reading", "Loading", "Running", "2"]


def test_ctrl_c_while_loading():
    process = start(DEMO)
    said = process.stderr.readline()  # before anything heavy is imported
    process.send_signal(signal.SIGINT)
    code, out, err = end(process)
    assert said.startswith("Loading mini")
    assert (code, out) == (130, ""), err
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err


# ---------------------------------------------------------------- a pseudo-terminal


class Screen:
    """Enough of a terminal to see what a reader sees: text, line feeds, cursor up, clearing; colours are noted.

    A line that is full leaves the cursor on its last cell until the next character, as terminals do.
    """

    CODES = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[([\d;]*)m|[^\x1b]", re.DOTALL)

    def __init__(self):
        self.lines = [[" "] * COLUMNS for _ in range(LINES)]
        self.row = self.column = self.moves_up = 0
        self.style = ""

    def feed(self, text):
        """Show text, which must be made of whole escape sequences."""
        for code in self.CODES.finditer(text):
            number, letter, _ = code.groups()
            if letter == "m":
                self.style = "" if number in ("", "0") else number
            elif letter:
                self.obey(letter, int(number or 0))
            else:
                self.put(code[0])
        assert self.CODES.sub("", text) == ""

    def obey(self, letter, number):
        """Cursor up, clear to the end of the line, clear to the end of the screen."""
        if letter == "A":
            self.moves_up += 1
            assert number <= self.row, "moved up beyond the screen: lines were counted wrongly"
            self.row -= number
        elif letter == "K":
            self.lines[self.row][self.column :] = [" "] * (COLUMNS - self.column)
        elif letter == "J":
            self.obey("K", 0)
            self.lines[self.row + 1 :] = [[" "] * COLUMNS for _ in self.lines[self.row + 1 :]]
        else:
            raise AssertionError(f"what is {letter}?")

    def put(self, character):
        """One character where the cursor stands."""
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self.row += 1
            if self.row == LINES:
                self.row -= 1
                self.lines = [*self.lines[1:], [" "] * COLUMNS]
        else:
            if self.column + wcwidth(character) > COLUMNS:
                self.put("\r")
                self.put("\n")
            self.lines[self.row][self.column] = character
            self.column += wcwidth(character)

    def text(self):
        """The lines on the screen, without the blank ones at its end."""
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip("\n").splitlines()


@pytest.fixture
def on_terminal():
    """Starts the script on pseudo-terminals, and sees to their end."""
    started = []

    def on_terminal(*options):
        started.append(OnTerminal(*options))
        return started[-1]

    yield on_terminal
    for run in started:
        run.kill()


class OnTerminal:
    """The script on a pseudo-terminal of its own."""

    def __init__(self, *options):
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [*DEMO, *options], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), start_new_session=True
        )
        os.close(theirs)
        self.screen, self.output = Screen(), ""

    def follow(self, watch):
        """Read what is written until the end, `watch(screen)` after every piece; the exit code."""
        deadline, rest = time.monotonic() + PATIENCE, b""
        while time.monotonic() < deadline:
            try:
                rest += os.read(self.ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            whole = rest[: rest.rfind(b"\n") + 1]  # never in the middle of a character or an escape sequence
            self.show(whole)
            watch(self.screen)
            rest = rest[len(whole) :]
        self.show(rest)
        return self.process.wait(PATIENCE)

    def show(self, data):
        """Put bytes on the screen."""
        self.output += data.decode()
        self.screen.feed(data.decode())

    def kill(self):
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_the_live_view_on_a_terminal(on_terminal, mini, monkeypatch, capsys):
    """Rows grow in place, the prompt stands there once, and what remains is the plain answer in colour."""
    run, seen = on_terminal("--max-new-tokens", "6"), set()

    def watch(screen):
        seen.update(re.findall(r"^Layer 1:.*/(\d+)$", "\n".join(screen.text()), re.MULTILINE))

    assert run.follow(watch) == 0, run.output
    assert run.screen.moves_up == 7  # once for each step but the first, and twice to clear
    assert "6" in seen
    assert len(seen) > 1, "no frame was seen before the last"
    assert COLOUR.differs in run.output
    assert run.screen.style == ""
    shown = run.screen.text()
    assert [line.split(" ")[0] for line in shown[:3]] == ["Loading", "Running", "6"]
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: mini)
    assert demo.main(["--max-new-tokens", "6", "--width", str(COLUMNS), "--color", "always"]) == 0
    assert shown[3:] == re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()


def test_ctrl_c_while_decoding_on_a_terminal(on_terminal):
    """What was finished stays on the screen, once, the colours are put back, and nothing else is said."""
    run, pressed = on_terminal("--max-new-tokens", "200", "--layers", "1"), []

    def watch(screen):
        if not pressed and any(re.match(r"Layer 1:.*/[3-9]$", line) for line in screen.text()):
            run.process.send_signal(signal.SIGINT)
            pressed.append(True)

    code = run.follow(watch)
    assert pressed, run.output
    assert code == 130, run.output
    assert "Traceback" not in run.output
    assert run.screen.style == ""
    shown = run.screen.text()
    assert shown[-1] == "Interrupted."
    assert sum(line.startswith("Prompt:") for line in shown) == 1
    (tokens,) = re.findall(r"^Layer 1:.*/(\d+)$", "\n".join(shown), re.MULTILINE)
    assert int(tokens) >= 3
    assert any(line.startswith("Settles at") for line in shown)


# ---------------------------------------------------------------- the live view by itself


class FakeTerminal(io.StringIO):
    """A stdout that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self):
        """Yes."""
        return True


@pytest.fixture
def size(monkeypatch):
    """The size of the terminal, to be changed in the middle of things."""
    size = SimpleNamespace(columns=COLUMNS, lines=LINES)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((size.columns, size.lines)))
    return size


def on_screen(stream):
    """What a terminal shows of what was written to it."""
    screen = Screen()
    screen.feed(stream.getvalue().replace("\n", "\r\n"))
    return screen


@pytest.mark.parametrize("lines", [LINES - 1, LINES, LINES + 5])
def test_a_frame_higher_than_the_screen_keeps_its_last_lines(size, lines):  # noqa: ARG001
    """The line below the frame, where the cursor waits, counts as well."""
    stream = FakeTerminal()
    view = LiveRows(stream, lambda rows, _: [f"line {n}: {rows}" for n in range(lines)])
    view.on_step(1, {7: 8})
    assert on_screen(stream).text() == [f"line {n}: {{7: [8]}}" for n in range(lines)][1 - LINES :]
    view.on_step(2, {7: 9})
    assert on_screen(stream).text()[-1] == f"line {lines - 1}: {{7: [8, 9]}}"
    view.close()
    assert on_screen(stream).text() == []


def narrowed(lines, columns):
    """What is left on a screen that wraps its lines anew."""
    return [line[at : at + columns] for line in lines for at in range(0, max(1, len(line)), columns)]


@pytest.mark.parametrize("environ", [{"TERM": "xterm-256color"}, {"TERM": "xterm", "XTERM_VERSION": "XTerm(390)"}])
def test_a_screen_that_is_made_narrower_is_left_without_litter(size, monkeypatch, environ):
    """Whether or not the terminal wraps what stands there anew: nothing is left, nothing above is touched."""
    monkeypatch.delenv("XTERM_VERSION", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream = FakeTerminal()
    view = LiveRows(stream, lambda rows, now: ["x" * now.columns, "", f"{rows}"])
    stream.write("before\n")
    view.on_step(1, {1: 5})
    shown = on_screen(stream).text()
    size.columns = 30
    again = narrowed(shown, 30) if "XTERM_VERSION" not in environ else [line[:30] for line in shown]
    stream.seek(0)
    stream.truncate()
    stream.write("".join(f"{line}\n" for line in again))
    view.on_step(2, {1: 6})
    assert on_screen(stream).text() == ["before", "x" * 30, "", "{1: [5, 6]}"]
    view.close()
    assert on_screen(stream).text() == ["before"]


@pytest.mark.parametrize("environ, live", [({"TERM": "dumb"}, False), ({"TERM": "xterm"}, True)])
def test_no_live_view_on_a_terminal_that_cannot_move_its_cursor(monkeypatch, environ, live):
    monkeypatch.setenv("TERM", environ["TERM"])
    monkeypatch.setattr(sys, "stdout", FakeTerminal())
    args = demo.build_parser().parse_args([])
    assert isinstance(demo.choose_progress(args, lambda *_: []), LiveRows) is live


def test_the_size_is_the_terminals_own(monkeypatch):
    """Not what a shell exported before the window changed."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LINES", "100")
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        assert screen_size(stream) == (200, 100)  # a terminal that does not know
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        assert screen_size(stream) == (COLUMNS, LINES)
        assert terminal_of(stream).width == COLUMNS
    os.close(ours)


def test_the_answer_fits_a_screen_that_was_made_narrower(size, mini, monkeypatch):
    stream = FakeTerminal()

    def load_model(*_args, **_options):
        return mini

    def narrower(_self, step, _newest):
        size.columns = COLUMNS if step < 3 else 40

    monkeypatch.setattr("layer_decoding.models.loading.load_model", load_model)
    monkeypatch.setattr(LiveRows, "on_step", narrower)
    monkeypatch.setattr(sys, "stdout", stream)
    assert demo.main(["--max-new-tokens", "12", "--layers", "6", "--color", "never"]) == 0
    assert max(map(len, stream.getvalue().splitlines())) <= 40
