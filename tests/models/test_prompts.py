"""A prompt: the argument or stdin, what a tokenizer puts around a text, the special token that a text can hold."""

import io
import os
import socket
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

import multi_layer_decoding_demo as demo
from conftest import SOURCE
from layer_decoding.cli.input import DEFAULT_PROMPT, argument_text, read_prompt
from layer_decoding.errors import UsageError
from layer_decoding.models import texts
from layer_decoding.models.prompts import encode_prompt
from layer_decoding.models.texts import encode_text
from model_folders import END, byte_tokenizer
from refusals import assert_refused

# ---------------------------------------------------------------- stdin


@pytest.fixture
def given(monkeypatch, tmp_path):
    """Puts bytes on stdin, by a file, by a pipe or by a socket."""

    def given(data, kind="file"):
        if kind == "file":
            (tmp_path / "prompt").write_bytes(data)
            descriptor = os.open(tmp_path / "prompt", os.O_RDONLY)
        elif kind == "socket":
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(data)
            descriptor = ours.detach()
        else:
            descriptor, end = os.pipe()
            os.write(end, data)
            os.close(end)
        monkeypatch.setattr(sys, "stdin", os.fdopen(descriptor))

    yield given
    sys.stdin.close()


@pytest.mark.parametrize("kind", ["file", "pipe", "socket"])
@pytest.mark.parametrize("argument", [None, "-"])
@pytest.mark.parametrize(
    "data, prompt",
    [
        (b"Once", "Once"),
        (b"Once\n", "Once"),
        (b"Once\n\n", "Once\n"),
        (b"Once\r\n", "Once"),
        (b"\xef\xbb\xbfOnce", "Once"),
        ("你好 👩‍👧\x1b[31m".encode(), "你好 👩‍👧\x1b[31m"),
        (b"a\x00b", "a\x00b"),
    ],
)
def test_prompt_from_stdin(given, kind, argument, data, prompt):
    given(data, kind)
    assert read_prompt(argument) == prompt


def test_an_argument_comes_before_stdin(given):
    given(b"from stdin")
    assert read_prompt("from the argument") == "from the argument"


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_empty_stdin(given, data):
    """Read without being asked for, it means nothing; asked for, it is a mistake."""
    given(data)
    assert read_prompt(None) == DEFAULT_PROMPT
    given(data)
    with pytest.raises(UsageError, match="prompt is empty"):
        read_prompt("-")


@pytest.mark.parametrize("argument", [None, "-"])
@pytest.mark.parametrize(
    "data, place",
    [
        (b"abc\xffd", "byte 3 is 0xff"),
        (b"\xef\xbb\xbfab\xe9", "byte 5 is 0xe9"),
    ],
)
def test_stdin_that_is_not_utf8(given, capsys, argument, data, place):
    given(data)
    code = demo.main([*filter(None, [argument])])
    assert_refused((code, *capsys.readouterr()), 1, "not UTF-8", place)


def test_stdin_that_is_a_keyboard_or_closed(monkeypatch):
    for stdin in (None, io.StringIO("not asked"), open(os.devnull)):  # noqa: PTH123, SIM115
        monkeypatch.setattr(sys, "stdin", stdin)
        assert read_prompt(None) == DEFAULT_PROMPT
    with pytest.raises(UsageError, match="prompt is empty"):
        read_prompt("-")


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_an_argument_is_the_text_that_was_typed(locale):
    """Where the locale knows no UTF-8 it comes as surrogates, a byte each."""
    check = "import sys; from layer_decoding.cli.input import read_prompt; print(ascii(read_prompt(sys.argv[1])))"
    environment = os.environ | {"PYTHONUTF8": "0", "LC_ALL": locale}
    argv = [sys.executable, "-c", check, "→ 你好".encode()]
    done = subprocess.run(argv, cwd=SOURCE, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == ascii("→ 你好")


def test_an_argument_that_is_no_text(capsys):
    assert argument_text(os.fsdecode("→".encode())) == argument_text("→") == "→"
    with pytest.raises(UsageError, match=r"'caf\\udce9' is not valid UTF-8"):
        read_prompt("caf\udce9")
    assert_refused((demo.main(["--view", "track", "--track", "caf\udce9"]), *capsys.readouterr()), 2, "not valid UTF-8")


def test_two_dashes_are_a_token_to_track():
    """Python 3.11 takes them for the end of the options, even as the value of one."""
    assert demo.build_parser().parse_args(["--view=track", "--track=--", "--track", "a"]).track == ["--", "a"]
    with pytest.raises(UsageError, match="invalid choice: '--'"):
        demo.build_parser().parse_args(["--view=--"])
    with pytest.raises(UsageError, match="'--' is not a whole number"):
        demo.build_parser().parse_args(["--max-new-tokens=--"])


# ---------------------------------------------------------------- in tokens


@pytest.mark.parametrize(
    "template, before",
    [(None, []), ("<s> $A", ["<s>"]), ("$A </s>", []), ("<s> $A </s>", ["<s>"]), ("<s> <s> $A </s>", ["<s>", "<s>"])],
)
@pytest.mark.parametrize("text", ["Hi", "", "a</s>", "</s>", "é", f"x{END}y"])
def test_tokens_added_after_the_prompt_are_left_out(template, before, text):
    tokenizer = byte_tokenizer("<s>", "</s>", END, template=template)
    assert encode_prompt(tokenizer, text) == [
        *tokenizer.convert_tokens_to_ids(before),
        *tokenizer.encode(text, add_special_tokens=False),
    ]


@pytest.mark.parametrize("unknown", [None, "?"])
@pytest.mark.parametrize("text", ["AC", "", "<s>G", "</s>"])
def test_what_comes_before_a_prompt_in_an_alphabet_without_letter_a(text, unknown):
    backend = Tokenizer(models.BPE(vocab={"A": 0, "C": 2, "G": 3, "T": 1, "?": 6}, merges=[], unk_token=unknown))
    backend.add_special_tokens(["<s>", "</s>"])
    ids = {special: backend.token_to_id(special) for special in ("<s>", "</s>")}
    backend.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=list(ids.items()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert encode_prompt(tokenizer, text) == [ids["<s>"], *backend.encode(text, add_special_tokens=False).ids]


def test_end_of_text_in_a_prompt_is_the_special_token(mini):
    assert encode_prompt(mini.tokenizer, END) == [0]
    assert encode_prompt(mini.tokenizer, f"a{END}b")[1] == 0


def test_a_text_is_cut_at_seams_only(monkeypatch):
    """Not inside a run of spaces, which are tokens together, nor at the end of an empty line."""
    tokenizer = byte_tokenizer(END, merges=[("Ġ", "Ġ"), ("ĠĠ", "ĠĠ"), ("Ċ", "Ċ"), ("Ċ", "Ġ"), ("ĠĠ", "Ċ")])
    for text in ("a" + " " * count + end for count in range(12) for end in ("b", "\n\n  b", " \n \n", "\n\n\nb", "")):
        right = tokenizer.encode(text * 3, add_special_tokens=False)
        for characters in range(1, 9):
            monkeypatch.setattr(texts, "_PIECE_CHARACTERS", characters)
            assert list(encode_text(tokenizer, [text * 3])) == right, (text, characters)
