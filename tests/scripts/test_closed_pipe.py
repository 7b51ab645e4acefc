"""A reader who has seen enough closes the pipe; the files that were asked for are written all the same."""

import io
from contextlib import redirect_stdout

import pytest

import multi_layer_beam_search_decoding_demo
import multi_layer_decoding_demo
import multi_layer_sampling_decoding_demo
import multi_layer_text_demo
from conftest import ROOT

TALE = str(ROOT / "tests" / "support" / "tale.txt")
WRITERS = [
    (multi_layer_decoding_demo, ["--max-new-tokens", "3"]),
    (multi_layer_beam_search_decoding_demo, ["--max-new-tokens", "3", "--num-beams", "2"]),
    (multi_layer_sampling_decoding_demo, ["--max-new-tokens", "3", "--temperature", "0.5,1"]),
]
READER = (multi_layer_text_demo, [TALE])
SCRIPTS = [*WRITERS, READER]


class Closed(io.StringIO):
    """A standard output that nobody reads any more."""

    def flush(self):
        """What print does at the end of a line that must be seen at once."""
        raise BrokenPipeError


@pytest.mark.parametrize("suffix", [".json", ".html", ".svg", ".csv"])
@pytest.mark.parametrize("script, options", SCRIPTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_closed_pipe_costs_no_file(script, options, suffix, tmp_path):
    target = tmp_path / f"saved{suffix}"
    with redirect_stdout(Closed()):
        assert script.main([*options, "--model", "mini", "--quiet", "--save", str(target)]) == 0
    assert target.stat().st_size > 100


@pytest.mark.parametrize("script, options", SCRIPTS, ids=lambda value: getattr(value, "__name__", ""))
def test_nor_a_fault_where_nothing_is_to_be_saved(script, options, capsys):
    with redirect_stdout(Closed()):
        assert script.main([*options, "--model", "mini"]) == 0
    assert "error" not in capsys.readouterr().err
