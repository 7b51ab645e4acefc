"""One of several processes: who speaks, who is silent, and that a failure is told once."""

import os
import signal
from argparse import Namespace

import pytest
from torch.distributed import HashStore

from layer_decoding.cli import torchrun
from layer_decoding.cli.torchrun import among_processes, check_shared
from layer_decoding.errors import Interrupted, LayerDecodingError, UsageError


@pytest.fixture
def among(monkeypatch):
    """`among(rank)` is the place of that one of three processes, whose store is one for the whole test."""
    store = HashStore()
    monkeypatch.setattr(torchrun, "_store", lambda: store)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    def among(rank, **options):
        monkeypatch.setenv("RANK", str(rank))
        return among_processes(Namespace(**{"quiet": False, "device": "auto", **options}))

    return among


def test_a_process_by_itself_has_no_place(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    args = Namespace(quiet=False)
    with among_processes(args) as place:
        assert place is None
    assert not args.quiet
    check_shared("-", place)


@pytest.mark.parametrize("rank, quiet", [(0, False), (1, True)])
def test_the_first_speaks(among, monkeypatch, rank, quiet):
    args = Namespace(quiet=False, device="cpu")
    monkeypatch.setenv("RANK", str(rank))
    with among(rank), among_processes(args) as place:
        assert (place.rank, place.count, place.is_first) == (rank, 3, not quiet)
    assert args.quiet == quiet


@pytest.mark.parametrize(
    "failure, code", [(UsageError("No."), 2), (LayerDecodingError("No."), 1), (RuntimeError("What?"), 1)]
)
def test_a_failure_is_told_by_whoever_has_it_first(among, failure, code):
    with pytest.raises(type(failure)), among(2):
        raise failure
    for rank in (0, 1):
        with pytest.raises(SystemExit) as left, among(rank):
            raise failure
        assert left.value.code == code


def test_who_reads_on_ends_when_another_has_failed(among):
    steps = []
    with among(0) as place:
        place.look(lambda *step: steps.append(step), 5, {})
    assert steps == [(5, {})]
    with pytest.raises(UsageError), among(1):
        raise UsageError("No.")
    with pytest.raises(SystemExit) as left, among(0) as place:
        place.look(lambda *step: steps.append(step), 6, {})
    assert (left.value.code, len(steps)) == (1, 1)


def test_an_interruption_is_the_firsts_to_tell(among):
    with pytest.raises(Interrupted), among(0):
        raise Interrupted(None)
    with pytest.raises(SystemExit) as left, among(1):
        raise Interrupted(None)
    assert left.value.code == 130


def test_a_process_that_is_ended_says_why_once(among, monkeypatch, capfd):
    codes = []
    monkeypatch.setattr(torchrun, "leave", codes.append)
    for rank in (1, 0):
        with among(rank):
            os.kill(os.getpid(), signal.SIGTERM)
    assert codes == [1, 1]
    said = "error: Another process of this run has died, and with it the run; start it again.\n"
    assert capfd.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_store_that_is_gone_is_a_process_that_has_failed(among, monkeypatch):
    def gone(*_args):
        raise RuntimeError("Connection reset by peer")

    with among(0) as first, among(1) as other:
        for name in ("add", "check"):
            monkeypatch.setattr(HashStore, name, gone, raising=False)
        assert first.may_tell()
        assert not other.may_tell()
        with pytest.raises(SystemExit):
            other.look(lambda *_: None, 1, {})


@pytest.mark.parametrize("file", ["-", None])
def test_standard_input_is_not_shared_out(among, file):
    with pytest.raises(UsageError, match="cannot be read by 3 processes; name a file"), among(0) as place:
        check_shared(file, place)
    check_shared("tale.txt", place)
