"""The script for a whole text: from a file or stdin to ids, and its command line in process."""

import io
import json
import re
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore

import goldens
import multi_layer_text_demo as demo
from conftest import SOURCE, STORY
from layer_decoding.cli import input as reading
from layer_decoding.cli import torchrun
from layer_decoding.cli.input import decode_text, read_text
from layer_decoding.decoding.text import means
from layer_decoding.errors import Interrupted, LayerDecodingError
from layer_decoding.models import texts
from layer_decoding.models.texts import encode_text
from pages import by_id, data_of, parsed, text_of

# ---------------------------------------------------------------- from a file to ids


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(
        st.sampled_from(
            [" ", " ", "\n", "\n", "\t", "\r", "\xa0", "\x1c", "\x85", "a", "The", "'s", "don't", "12", "_"]
        )
        | st.sampled_from(
            [".", "—", "é", "e\u0301", "\u0301", "\u180e", "\u200b", "日本", "<|endoftext|>", "🙂\u200d"]
        ),
        max_size=60,
    ).map("".join),
    size=st.integers(1, 20),
    read=st.integers(1, 30),
)
def test_pieces_of_a_text_have_the_ids_of_the_whole(mini, text, size, read):
    before = texts._PIECE_CHARACTERS
    texts._PIECE_CHARACTERS = size
    parts = [text[start : start + read] for start in range(0, len(text), read)]
    try:
        pieces = list(texts._pieces(parts))
        assert pieces == list(texts._pieces([text]))
        ids = encode_text(mini.tokenizer, parts, prefix=[7])
    finally:
        texts._PIECE_CHARACTERS = before
    assert "".join(pieces) == text
    assert ids.tolist() == [7, *mini.tokenizer.encode(text, add_special_tokens=False)]


def test_a_long_text_is_cut(monkeypatch, mini):
    monkeypatch.setattr(texts, "_PIECE_CHARACTERS", 30)
    assert len(list(texts._pieces([STORY]))) == 30
    assert texts._splits_at_seams(mini.tokenizer)


def test_text_of_a_file(tmp_path):
    file = tmp_path / "tale.txt"
    file.write_bytes("\ufeffOne\r\ntwo.\r\n".encode())
    text = read_text(str(file))
    assert "".join(text) == "".join(text) == "One\ntwo."


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(st.sampled_from(["\ufeff", "\r", "\n", "\r\n", "a", "é", "日", "🙂"]), max_size=12).map("".join),
    cut=st.integers(0, 1),
    size=st.integers(1, 5),
)
def test_a_text_read_bit_by_bit_is_the_whole(text, cut, size):
    """And of one that is cut off in the middle of a character the same byte is named."""
    raw = text.encode()[: len(text.encode()) - cut]
    before = reading._READ_AT_ONCE
    reading._READ_AT_ONCE = size
    try:
        expected = raw.decode().removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
    except UnicodeDecodeError as error:
        with pytest.raises(LayerDecodingError, match=f"^It is not UTF-8 text: byte {error.start} is 0x"):
            decode_text(raw, "It")
    else:
        assert decode_text(raw, "It") == expected
    finally:
        reading._READ_AT_ONCE = before


def test_neither_a_text_nor_its_ids_are_held(tmp_path, monkeypatch):
    """23 MB of text in lines in less than 10, a million and a half ids of four bytes in less than 1."""
    file = tmp_path / "long.txt"
    file.write_bytes(b"Once upon a time there was a little girl.\r\n" * 550_000)
    monkeypatch.setattr(texts, "_HELD_IDS", 10_000)
    tracemalloc.start()
    try:
        text = read_text(str(file))
        count = sum(map(len, texts._pieces(text)))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.reset_peak()
        ids = texts._stored([7], ([place, 3] for place in range(750_000)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert (count, len(ids)) == (23_099_999, 1_500_001)
    assert list(ids[:3]) == [7, 0, 3]
    assert ids[-2] == 749_999


def test_ids_that_lie_in_a_file_are_measured_like_any(tiny, monkeypatch):
    monkeypatch.setattr(texts, "_HELD_IDS", 50)
    ids = texts._stored([], ([place % 97] for place in range(130)))
    assert isinstance(ids, memoryview)
    assert means.measure_text(tiny, ids) == means.measure_text(tiny, ids.tolist())


def test_no_room_for_ids_is_said(monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(texts, "_HELD_IDS", 1)
    monkeypatch.setattr(texts.tempfile, "TemporaryFile", full)
    with pytest.raises(LayerDecodingError, match=r"No space left on device\); set TMPDIR to a folder"):
        texts._stored([], [[1, 2]])


@pytest.mark.parametrize("content, code, words", [
    (b"", 2, "is empty"),
    (b"\n", 2, "is empty"),
    (b"\x89PNG\r\n\x1a\n\0\0", 1, "is not UTF-8 text: byte 0 is 0x89"),
    ("Tale".encode("utf-16"), 1, "is not UTF-8"),
    ("Tale".encode("utf-16-le"), 1, "has a zero byte"),
    (None, 1, "No such file"),
    ("folder", 1, "directory"),
])  # fmt: skip
def test_what_is_no_text(tmp_path, capsys, monkeypatch, content, code, words):
    """Noticed before a model is loaded, in one sentence."""
    file = tmp_path / "t\x1b.txt"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    monkeypatch.setitem(sys.modules, "layer_decoding.models.loading", None)
    assert demo.main([str(file)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\x1b\n]*\.\n", err)
    assert words in err


# ---------------------------------------------------------------- the script


@pytest.fixture
def run(capsys, monkeypatch, mini):
    """main(argv) as (exit code, stdout, stderr) with the bundled model, stdin being some bytes."""
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_args, **_options: mini)

    def run(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return demo.main([str(argument) for argument in argv]), *capsys.readouterr()

    return run


def test_script_from_stdin_and_into_files(run, tmp_path):
    saved = tmp_path / "a.json", tmp_path / "a.csv"
    code, out, err = run("-", "--passage", "3-12", "--save", saved[0], "--save", saved[1], stdin=STORY.encode())
    assert code == 0
    assert "Tokens 3 to 12 of" in out
    assert out.count("Layer 12:") == 2
    assert re.search(r"\d+ tokens through 12 layers in", err)
    document = json.loads(saved[0].read_text())
    assert [len(row["ids"]) for row in document["passage"]["rows"]] == [10] * 12
    assert len(saved[1].read_text().splitlines()) == 13
    code, out, err = run("-", "--json", "--quiet", stdin=STORY.encode())
    assert (code, err) == (0, "")
    assert json.loads(out)["layers"] == document["layers"]
    assert json.loads(out)["text"]["source"] == "-"


def test_the_page_of_a_passage_has_every_lens(run, tmp_path):
    page = tmp_path / "a.html"
    assert run("-", "--passage", "2-6", "--lens", "linear,plain", "--save", page, stdin=STORY.encode())[0] == 0
    root = parsed(page.read_text(encoding="utf-8"))
    assert [reading["lens"] for reading in data_of(root)["readings"]] == ["linear", "plain"]
    heads = by_id(root, "layers").findall("thead/tr/th")[1:]
    assert [text_of(head) for head in heads] == ["1 upon", "2 a", "3 time", "4 there", "5 was"]  # the text's own


@pytest.mark.parametrize(
    "argv, words",
    [
        (["-"], "Standard input is empty"),
        ([], "no text to read"),
        ([""], "no text to read"),
        (["-", "--passage", "5"], "'5' is not a range"),
        (["-", "--passage", "9-3"], "holds no token"),
        (["-", "--passage", "0-3"], "first of a text has number 1"),
        (["-", "--window", "0"], "at least 1"),
        (["-", "--save", "a.txt"], ".csv or .json"),
        (["-", "--layers", "7-2"], "2-7"),
    ],
)
def test_usage_errors(run, argv, words):
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: .*\.\n", err)
    assert words in err


@pytest.mark.parametrize(
    "argv, stdin, words",
    [
        (["-"], b"a", "one token"),
        (["-", "--passage", "500-600"], STORY.encode(), "begins at token 500"),
        (["-", "--window", "1000"], STORY.encode(), "context holds 512"),
        (["-", "--layers", "13"], STORY.encode(), "layers 1 to 12"),
    ],
)
def test_what_only_the_model_can_tell(run, argv, stdin, words):
    code, out, err = run(*argv, "--quiet", stdin=stdin)
    assert (code, out) == (2, "")
    assert words in err


def test_interrupted_script_shows_what_was_read(run, monkeypatch):
    def measure(*_args, **_options):
        raise Interrupted(goldens.stored_text()[0])

    monkeypatch.setattr(means, "measure_text", measure)
    code, out, err = run("-", "--quiet", stdin=STORY.encode())
    assert code == 130
    assert "Means over 18 predicted tokens of 20" in out
    assert err.endswith("Interrupted.\n")


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_the_first_alone_prints(run, monkeypatch, tmp_path, rank):
    file = tmp_path / "tale.txt"
    file.write_text(STORY)
    alone = run(file)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torchrun, "_store", HashStore)
    monkeypatch.setattr(demo, "joined", lambda _: SimpleNamespace(rank=0, count=1, summed=lambda numbers: numbers))
    code, out, err = run(file)
    assert (code, out) == (0, "" if rank else alone[1])
    assert bool(err) == (rank == 0)


def test_help_fits_a_screen_and_comes_before_torch():
    check = """
import sys
import multi_layer_text_demo as demo
sys.argv[0] = "multi_layer_text_demo.py"
assert demo.main(["--help"]) == 0
assert demo.main(["/no/such/file"]) == 1
assert not {"torch", "transformers", "tokenizers", "numpy"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", check], cwd=SOURCE, check=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) <= 50
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert len(done.stderr.splitlines()) == 1
