"""The greedy script from its command line, in process: bad input, a bad world, streams that cannot be written to."""

import io
import os
import shutil
import sys
from contextlib import suppress

import pytest
import torch

import multi_layer_decoding_demo as demo
from conftest import random_gpt2
from layer_decoding.cli.input import DEFAULT_PROMPT
from layer_decoding.cli.options import layer_list
from layer_decoding.cli.progress import ProgressLine
from layer_decoding.terminal.theme import COLOUR
from refusals import assert_refused


@pytest.fixture
def run(capsys):
    """main(argv) as (exit code, stdout, stderr)."""

    def run(*argv):
        code = demo.main([str(argument) for argument in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def loaded(mini, monkeypatch):
    """The bundled model without loading it again: `use(model)` puts another in its place, or an error."""

    def use(answer):
        def load_model(*_args, **_options):
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr("layer_decoding.models.loading.load_model", load_model)

    use(mini)
    return use


# ---------------------------------------------------------------- fixed by another command line


@pytest.mark.parametrize(
    "argv, words",
    [
        ([""], ["prompt is empty", "<|endoftext|>"]),
        (["-"], ["prompt is empty"]),
        (["caf\udce9"], ["UTF-8"]),
        (["two", "prompts"], ["prompts"]),
        (["--max-new-tokens", 0], ["0", "at least 1"]),
        (["--max-new-tokens", -5], ["-5", "at least 1"]),
        (["--max-new-tokens", "many"], ["'many'"]),
        (["--max-new-tokens", "1.5"], ["'1.5'"]),
        (["--max-new-tokens"], ["--max-new-tokens"]),
        (["--layers", "5-2"], ["5-2", "2-5"]),
        (["--layers", ""], ["''"]),
        (["--layers", "1,,2"], ["'1,,2'"]),
        (["--layers", "1-x"], ["'1-x'"]),
        (["--layers", "one"], ["'one'"]),
        (["--layers=-1"], ["'-1'"]),
        (["--layers", "1-999999999999"], ["999999999999"]),
        (["--width", 5], ["5", "at least 20"]),
        (["--color", "blue"], ["'blue'", "always"]),
        (["--context", "both"], ["'both'", "shared", "own"]),
        (["--modle", "mini"], ["--modle"]),
        (["--max-new", 3], ["--max-new"]),
        (["--model", ""], ["model name is empty"]),
        (["--device", "toaster"], ["'toaster'", "cuda"]),
        (["--dtype", "float8"], ["'float8'", "float16"]),
        (["a", "b\x1b[31m\nc"], [r"b\x1b[31m\nc"]),
    ],
)
def test_usage_errors(run, monkeypatch, argv, words):
    monkeypatch.setattr(sys, "stdin", None)
    assert_refused(run(*argv), 2, *words)


@pytest.mark.parametrize("layers, wrong", [("13", "13"), ("0-14", "13, 14"), ("1,400", "400")])
def test_layers_that_the_model_has_not(run, loaded, layers, wrong):  # noqa: ARG001
    assert_refused(run("--layers", layers), 2, f"{wrong} is out of range", "1 to 12")


@pytest.mark.parametrize("new", [1, 2, 20, 10**30])
def test_more_than_the_context_holds(run, loaded, mini, new):  # noqa: ARG001
    """What is wrong and what would do, in numbers."""
    context = mini.model.config.n_positions
    prompt = " the" * (context - 1)
    written = len(mini.tokenizer.encode(prompt))
    assert written == context - 1
    if new == 1:
        assert run(prompt, "--max-new-tokens", 1, "--layers", 6)[0] == 0
    else:
        assert_refused(run(prompt, "--max-new-tokens", new), 2, str(written), str(new), str(context), "at most 1 new")
    assert_refused(run(prompt + " the", "--max-new-tokens", new), 2, f"{context} tokens", f"at most {context - 1}")


def test_layer_lists():
    assert layer_list("1,6,9-12") == [1, 6, 9, 10, 11, 12]
    assert layer_list(" 3 , 1-2 ,3 ") == [1, 2, 3]
    assert layer_list("0-1") == [0, 1]
    assert layer_list("all") is None


# ---------------------------------------------------------------- the world


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini):
    """A tiny random model with the bundled tokenizer, as save_pretrained writes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    random_gpt2(vocab_size=len(mini.tokenizer)).save_pretrained(folder)
    mini.tokenizer.save_pretrained(folder)
    return folder


def test_a_folder_is_loaded(run, folder):
    code, out, err = run("--model", folder, "--max-new-tokens", 2, "Once")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()[2:6]] == [f"Layer {n}" for n in range(1, 5)]
    assert str(folder) in err


def cut_weights(folder):
    """As an interrupted download leaves them."""
    os.truncate(folder / "model.safetensors", 1000)


def make_pickle(folder):
    """As older checkpoints were published."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def drop_tokenizer(folder):
    """As a training script leaves a model that saved only that."""
    for file in folder.glob("token*"):
        file.unlink()


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda folder: (folder / "config.json").unlink(), ["config.json"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json"]),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), ["bert"]),
        (lambda folder: (folder / "model.safetensors").unlink(), ["model.safetensors"]),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 999), ["model.safetensors", "999"]),
        (cut_weights, ["model.safetensors", "1,000"]),
        (make_pickle, ["pickle", "pytorch_model.bin"]),
        (drop_tokenizer, ["tokenizer"]),
        (shutil.rmtree, ["no folder"]),
    ],
)
def test_damaged_folders(run, folder, tmp_path, damage, words):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy)
    assert_refused(run("--model", copy), 1, *words)


def test_a_model_that_is_nowhere(run):
    assert_refused(run("--model", "no-one/no-model"), 1, "no-one/no-model", "mini")
    assert_refused(run("--model", "not a \x1b[31mname"), 1, r"not a \x1b[31mname")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is asked for")
@pytest.mark.parametrize("device", ["cuda", "cuda:7"])
def test_no_silent_fall_back_from_an_absent_device(run, device):
    assert_refused(run("--model", "mini", "--device", device), 1, device, "cpu")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_exhausted(run, loaded, error):
    loaded(error)
    assert_refused(run(), 1, "memory", "smaller model")


def test_what_nobody_foresaw_is_one_sentence_too(run, loaded):
    loaded(ZeroDivisionError("a\nb"))
    assert_refused(run(), 1, "ZeroDivisionError", "a b", "--debug")
    loaded(ZeroDivisionError("a\nb"))
    code, _, err = run("--debug")
    assert code == 1
    assert "Traceback" in err


def test_the_default_run_needs_no_option(run, monkeypatch):
    """Without gpt2 and without the Hub: the bundled model, and one line that says so and what to do."""
    monkeypatch.setattr("layer_decoding.models.hub.find_cached", lambda _name: None)
    code, out, err = run()
    assert code == 0
    assert out.startswith(f"Prompt: {DEFAULT_PROMPT}\n\nLayer 1:")
    (fall_back,) = [line for line in err.splitlines() if "bundled" in line]
    assert "gpt2 is not in the local cache" in fall_back
    assert "name its folder" in fall_back


# ---------------------------------------------------------------- without error


SHORT = ("--max-new-tokens", 3, "--layers", "6", "--no-live")


@pytest.mark.parametrize(
    "prompt, shown",
    [
        ("red \x1b[31m, right \u202e, a\nb", r"red \x1b[31m, right \u202e, a↵b"),
        ("👩‍👧 你好 שלום e\u0301", "👩‍👧 你好 שלום e\u0301"),
        ("<|endoftext|>", "<|endoftext|>"),
        (" ", " "),
    ],
)
def test_unusual_prompts(run, loaded, prompt, shown):  # noqa: ARG001
    code, out, _ = run(prompt, *SHORT)
    assert code == 0
    assert out.splitlines()[0] == f"Prompt: {shown}".rstrip() or out.splitlines()[0] == f"Prompt: {shown}"


def test_quiet_leaves_stdout_as_it_is(run, loaded):  # noqa: ARG001
    code, out, err = run(*SHORT)
    assert (code, err.count("\n")) == (0, 2)
    assert run(*SHORT, "--quiet") == (0, out, "")


def test_colour_only_where_it_is_asked_for(run, loaded):  # noqa: ARG001
    _, plain, _ = run(*SHORT)
    _, coloured, _ = run(*SHORT, "--color", "always")
    assert "\x1b" not in plain
    assert COLOUR.differs in coloured
    assert run(*SHORT, "--color", "always", "--color", "never")[1] == plain


def test_width_wraps_what_is_piped(run, loaded):  # noqa: ARG001
    wide = run("a " * 30, *SHORT)[1].splitlines()
    narrow = run("a " * 30, *SHORT, "--width", 30)[1].splitlines()
    assert max(map(len, wide)) > 60
    assert max(map(len, narrow)) <= 30


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_stdout_that_cannot_encode(loaded, monkeypatch, encoding):  # noqa: ARG001
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert demo.main(["é 你 👩\n", *map(str, SHORT), "--quiet"]) == 0
    first = raw.getvalue().decode(encoding).splitlines()[0]
    expected = {
        "cp1252": r"Prompt: é \u4f60 \U0001f469\n",
        "ascii": r"Prompt: \xe9 \u4f60 \U0001f469\n",
        "utf-8": "Prompt: é 你 👩↵",
    }
    assert first == expected[encoding]


def test_settings_of_the_models_own_are_named_once(run, loaded, mini, monkeypatch):  # noqa: ARG001
    """They are set aside, which a reader has to know."""
    from transformers import GenerationConfig

    monkeypatch.setattr(mini.model, "generation_config", GenerationConfig(eos_token_id=0, repetition_penalty=1.3))
    code, _, err = run(*SHORT)
    assert code == 0
    (line,) = [line for line in err.splitlines() if "repetition_penalty" in line]
    assert "1.3" in line


# ---------------------------------------------------------------- interrupted, and outputs that fail


def stop_at(step):
    """A progress line at which the reader presses Ctrl-C."""

    def on_step(self, now, newest):  # noqa: ARG001
        if now == step:
            raise KeyboardInterrupt

    return on_step


def test_ctrl_c_while_loading(run, loaded):
    loaded(KeyboardInterrupt())
    code, out, err = run()
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "Interrupted."


def test_ctrl_c_while_decoding_keeps_what_was_finished(run, loaded, monkeypatch):  # noqa: ARG001
    whole = run("--max-new-tokens", 3)[1]
    monkeypatch.setattr(ProgressLine, "on_step", stop_at(3))
    code, out, err = run("--max-new-tokens", 9)
    assert (code, out) == (130, whole)
    assert err.splitlines()[-1] == "Interrupted."


def test_ctrl_c_leaves_no_half_document(run, loaded, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr("layer_decoding.cli.progress.NoProgress.on_step", stop_at(2))
    code, out, _ = run("--json")
    assert (code, out) == (130, "")


@pytest.fixture
def writes_to(monkeypatch):
    """Puts a real file in stdout's place; what is left in its buffer is written at the end, as at exit."""
    opened = []

    def writes_to(file):
        monkeypatch.setattr(sys, "stdout", file)
        opened.append(file)

    yield writes_to
    for file in opened:
        with suppress(OSError):
            file.close()


def closed_pipe():
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
@pytest.mark.parametrize("argv", [["--quiet"], ["--quiet", "--json"]])
def test_an_output_that_is_full(loaded, writes_to, capsys, argv):  # noqa: ARG001
    writes_to(open("/dev/full", "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    code = demo.main([*map(str, SHORT), *argv])
    assert_refused((code, "", capsys.readouterr().err), 1, "output cannot be written", "No space left")


def test_a_pipe_closed_early(loaded, writes_to, capsys):  # noqa: ARG001
    writes_to(closed_pipe())
    assert demo.main([*map(str, SHORT), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_ctrl_c_takes_the_reader_of_a_pipe_along(loaded, writes_to, capsys, monkeypatch):  # noqa: ARG001
    monkeypatch.setattr(ProgressLine, "on_step", stop_at(2))
    writes_to(closed_pipe())
    assert demo.main(["--max-new-tokens", "9"]) == 130
    assert "Broken" not in capsys.readouterr().err
    sys.stdout.flush()  # nothing is left that the interpreter would complain about at exit


def test_a_stdout_that_is_closed(loaded, monkeypatch, capsys):  # noqa: ARG001
    monkeypatch.setattr(sys, "stdout", None)
    code = demo.main([*map(str, SHORT)])
    assert_refused((code, "", capsys.readouterr().err), 1, "output cannot be written")


def test_a_stderr_that_is_closed_leaves_stdout_alone(run, loaded, monkeypatch):  # noqa: ARG001
    whole = run(*SHORT)[1]
    monkeypatch.setattr(sys, "stderr", None)
    assert run(*SHORT)[:2] == (0, whole)
