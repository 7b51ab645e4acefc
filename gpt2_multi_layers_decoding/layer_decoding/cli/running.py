"""How every script runs: parse, show, and turn whatever went wrong into one sentence and an exit code.

0 done, 1 a failure of the world, 2 a usage error, 130 interrupted. Results go to stdout, all else to stderr.
"""

import argparse
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

import colorama

from layer_decoding.cli.commands import as_called
from layer_decoding.cli.input import read_prompt, stdin_is_given
from layer_decoding.cli.options import Parser
from layer_decoding.cli.process import (
    INTERRUPTED,
    keep_freed_memory,
    leaving_at_once,
    looking_for_no_garbage,
    results_are_kept,
    use_one_thread,
    wait_without_spinning,
)
from layer_decoding.cli.progress import NoProgress, OnStep, Progress, ProgressLine
from layer_decoding.errors import Interrupted, LayerDecodingError, is_out_of_memory
from layer_decoding.files.saving import Writers, save
from layer_decoding.terminal.hidden import escape
from layer_decoding.terminal.theme import Terminal, screen_size, terminal_of

if TYPE_CHECKING:
    from layer_decoding.models.loading import LoadedModel


OUT_OF_MEMORY = LayerDecodingError(
    "The memory is exhausted; try a smaller model, fewer new tokens, 16-bit numbers, or another device.",
    settings=["model", "max_new_tokens", "dtype", "device"],
)
Lines = Callable[[Terminal], list[str]]  # an answer, as a terminal shows it
Stages = Callable[[Terminal, int], list[list[str]]]  # what a terminal showed before it, in so many frames at most
Show = Callable[[argparse.Namespace], None]
Result = TypeVar("Result")


def run(parser: Parser, show: Show, argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, call `show` with them, return the exit code; nothing but --debug shows a traceback."""
    colorama.just_fix_windows_console()
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    debug = False
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser.parse_args(words)
        args.command = command_of(words)
        debug = args.debug
        if sys.stdout is None:
            raise LayerDecodingError("The output cannot be written: standard output is closed; send it somewhere.")
        results_are_kept()
        show(args)
        sys.stdout.flush()
        return 0
    except SystemExit as stop:  # argparse, after --help and --version
        return int(stop.code or 0)
    except KeyboardInterrupt:
        _flush_stdout()
        _say("")
        _say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error, parser)


def command_of(words: Sequence[str]) -> str:
    """What was typed, without the files that it was saved to.

    >>> command_of(["--view", "table", "--save", "table.svg"]).partition(" ")[2]
    '--view table'
    """
    name = Path(sys.argv[0]).name
    kept = [
        word
        for before, word in pairwise(["", *words])
        if "--save" not in (before, word) and not word.startswith("--save=")
    ]
    return shlex.join([*(["python"] if name.endswith(".py") else []), name, *kept])


def prompt_of(args: argparse.Namespace) -> str:
    """The prompt, see `read_prompt`; a reader whose pipe says nothing yet is told what is waited for."""
    if args.prompt == "-" or (args.prompt is None and stdin_is_given()):
        notice(args, "Reading the prompt from standard input ...")
    return read_prompt(args.prompt)


def load(args: argparse.Namespace, tell: Callable[[str], None] | None = None) -> "LoadedModel":
    """The model asked for; the first line is said before anything heavy is imported.

    Notices go to `tell`, else to stderr.
    """
    if tell is None:
        tell = partial(notice, args)
    from layer_decoding.models.loading import load_model, quiet_libraries
    from layer_decoding.models.locating import DEFAULT_MODEL

    tell(f"Loading {args.model or DEFAULT_MODEL} ...")
    if not args.debug:
        quiet_libraries()
    wait_without_spinning()
    keep_freed_memory()
    with leaving_at_once(), looking_for_no_garbage():
        loaded = load_model(
            args.model,
            args.device,
            args.dtype,
            device_map=args.device_map,
            on_notice=tell,
        )
        from layer_decoding.models.generation import settings_set_aside

        aside = settings_set_aside(loaded.model)
    use_one_thread(loaded.model.num_parameters())
    if args.debug:
        notice(args, f"It was read from {loaded.path}.")
    if aside:
        settings = ", ".join(f"{name}={value}" for name, value in aside.items())
        tell(f"The model's own generation settings are set aside: {settings}.")
    return loaded


def load_prompted(args: argparse.Namespace) -> "tuple[LoadedModel, str, list[int]]":
    """The model asked for, and what it is to continue, see `prompt_of`: the text, templated for --chat, and its ids."""
    prompt = prompt_of(args)
    loaded = load(args)
    return loaded, *encoded(args, loaded, prompt, partial(notice, args))


def encoded(
    args: argparse.Namespace, loaded: "LoadedModel", prompt: str, tell: Callable[[str], None]
) -> tuple[str, list[int]]:
    """A prompt as the text that is continued, templated or shortened if that is asked for, and its ids."""
    from layer_decoding.models.prompts import encode_chat, encode_prompt, prompt_advice, shortened

    if args.chat:
        prompt, ids = encode_chat(loaded.tokenizer, prompt)
    else:
        ids = encode_prompt(loaded.tokenizer, prompt)
        for sentence in prompt_advice(loaded.tokenizer, prompt)[:1]:
            tell(sentence)
    if args.truncate_prompt:
        kept = shortened(loaded.model, ids, args.max_new_tokens)
        if len(kept) < len(ids):
            tell(f"Of the prompt's {len(ids):,} tokens the last {len(kept):,} are kept.")
            prompt, ids = str(loaded.tokenizer.decode(kept)), kept
    return prompt, ids


# ---------------------------------------------------------------- a run: watched, printed, saved


def watched(
    args: argparse.Namespace,
    progress: Progress,
    work: Callable[[OnStep], Result],
    said: Callable[..., str],
) -> tuple[Result | None, Interrupted | None]:
    """What `work` returns, under the eyes of a progress; after Ctrl-C what was finished of it, and the interruption.

    `said` makes the notice at its end out of the result and the seconds that it took.
    """
    started = time.perf_counter()
    with closing(progress):
        try:
            result = work(progress.on_step)
        except Interrupted as stop:
            return stop.result, stop
    notice(args, said(result, time.perf_counter() - started))
    return result, None


def progress_of(args: argparse.Namespace, total: int, unit: str = "token") -> Progress:
    """A progress line, unless nothing but JSON is to be shown, or nothing at all."""
    return NoProgress() if args.json or args.quiet else ProgressLine(total, unit)


class Output:
    """Where an answer goes: lines at once, the JSON document alone in their place, files at the end.

    A reader who closes the pipe has seen enough, but the files that were asked for are still written.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.is_open = True

    def say(self, lines: Sequence[str]) -> None:
        """Print lines, unless stdout is for JSON."""
        if lines and not self.args.json:
            self._print("\n".join(lines))

    def finish(self, writers: Writers) -> None:
        """Print the JSON document if it was asked for, and write the files."""
        if self.args.json:
            self._print(writers[".json"]().decode().removesuffix("\n"))
        for path in self.args.save:
            save(path, writers)
            notice(self.args, f"Saved {path}.")

    def _print(self, text: str) -> None:
        if not self.is_open:
            return
        try:
            print(text, flush=True)
        except BrokenPipeError:
            if not self.args.save:
                raise
            self.is_open = False
            _forget_stdout()


def deliver(args: argparse.Namespace, lines: Lines, writers: Writers, stop: Interrupted | None = None) -> None:
    """Print an answer and write its files; of a run that was interrupted, lines alone, and the interruption goes on."""
    output = Output(args)
    try:
        output.say([] if args.json else lines(terminal_of(sys.stdout, args.color, args.width)))
    except BrokenPipeError:
        if stop is None:
            raise
        _forget_stdout()  # Ctrl-C has ended the reader of the pipe too
    if stop is not None:
        raise stop
    output.finish(writers)


def drawn(args: argparse.Namespace, lines: Lines, before: Stages | None = None) -> bytes:
    """An answer as a terminal shows it, as the content of an SVG file; `before` are the frames of one that moves."""
    from layer_decoding.files.picture import frames_before, picture, terminal_drawn

    terminal = terminal_drawn(args.width or screen_size(sys.stdout).columns, args.color)
    answer = lines(terminal)
    stages = before(terminal, frames_before(answer)) if before else []
    return picture([*stages, answer], args.command)


# ---------------------------------------------------------------- what is said besides


def notice(args: argparse.Namespace, sentence: str) -> None:
    """A line for the reader on stderr, unless --quiet."""
    if not args.quiet:
        _say(sentence)


def _explain(error: Exception, parser: Parser) -> int:
    """Say in one sentence what went wrong; return its exit code."""
    if is_out_of_memory(error) and not isinstance(error, LayerDecodingError):
        error = OUT_OF_MEMORY
    if isinstance(error, LayerDecodingError):
        _say(f"error: {as_called(with_options(error, parser))}")
        return error.exit_code
    if isinstance(error, OSError):
        _forget_stdout()
        _say(f"error: The output cannot be written: {error.strerror or error}; write it somewhere else.")
    else:
        _say(f"error: {type(error).__name__}: {' '.join(str(error).split())}; --debug shows where.")
    return 1


def with_options(error: LayerDecodingError, parser: Parser) -> str:
    """An error's sentence, with what to type in brackets at its end."""
    options = [action.option_strings[0] for action in parser.options if action.dest in error.settings]
    return f"{str(error).removesuffix('.')} ({', '.join(options)})." if options else str(error)


def _say(line: str) -> None:
    """Write a line to stderr, nothing in it that a terminal obeys; a closed stderr is no reason to fail."""
    if sys.stderr is None:  # print would take stdout in its place
        return
    with suppress(OSError, ValueError):
        print(escape(line), file=sys.stderr, flush=True)


def _never_fail_to_encode(stream: TextIO) -> None:
    """Characters that a stream's encoding lacks are written as escapes rather than raise."""
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _flush_stdout() -> None:
    """Write what is left for stdout; if nobody takes it any more, forget it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        _forget_stdout()


def _forget_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail either."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
