"""What is said where a command line or a prompt is probably not what its writer meant."""

import subprocess
import sys

import pytest

import multi_layer_decoding_demo as demo
from conftest import SOURCE
from layer_decoding.models.prompts import prompt_advice, shortened


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--modle", "mini"], "did you mean --model?"),
        (["--max-new-token=3"], "did you mean --max-new-tokens?"),
        (["--top-p=0.5"], "multi_layer_sampling_decoding_demo.py takes it"),
        (["--num-beams", "3"], "multi_layer_beam_search_decoding_demo.py takes it"),
        (["--", "hello", "--json"], "put quotes around a prompt of several words"),
        (["hello", ""], "put quotes around a prompt of several words"),
        (["hello", "world"], "put quotes around a prompt of several words"),
    ],
)
def test_a_slip_on_the_command_line(argv, words, capsys):
    assert demo.main(argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "prompt, words",
    [
        ("Once upon a time ", "ends in a space"),
        (" girl", "begins with a space"),
        ("The Antidisestablishmentarianism", "tokens to this model"),
    ],
)
def test_a_prompt_that_is_not_read_as_it_looks(mini, prompt, words):
    assert words in prompt_advice(mini.tokenizer, prompt)[0]


@pytest.mark.parametrize("prompt", ["A long long time ago,", "5 + 8 =", "The king", "<|endoftext|>", "\n"])
def test_an_ordinary_prompt_has_none(mini, prompt):
    assert prompt_advice(mini.tokenizer, prompt) == []


def test_one_line_is_said_and_none_with_quiet(capsys):
    assert demo.main(["--model", "mini", "--max-new-tokens", "1", " A time "]) == 0
    assert capsys.readouterr().err.count("space") == 1 + 1  # one sentence, which names it twice
    assert demo.main(["--model", "mini", "--max-new-tokens", "1", "--quiet", " A time "]) == 0
    assert capsys.readouterr().err == ""


def test_of_a_long_prompt_the_end_is_kept_if_that_is_wanted(tiny, capsys):
    assert shortened(tiny, list(range(60)), 10) == list(range(6, 60))
    assert shortened(tiny, list(range(50)), 10) == list(range(50))
    long = ["--model", "mini", "--max-new-tokens", "2", " the" * 600]
    assert demo.main(long) == 2
    assert "(--truncate-prompt)" in capsys.readouterr().err
    assert demo.main([*long, "--truncate-prompt"]) == 0
    assert "Of the prompt's 600 tokens the last 510 are kept." in capsys.readouterr().err


def test_a_variable_names_the_model_of_a_run_that_names_none():
    code = "import multi_layer_decoding_demo as d; print(d.build_parser().parse_args([]).model)"
    for value, model in (("mini", "mini"), ("", "None")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=SOURCE,
            env={"LAYER_DECODING_MODEL": value, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == model


def test_the_package_lists_the_scripts():
    done = subprocess.run(
        [sys.executable, "-m", "layer_decoding"], cwd=SOURCE, capture_output=True, text=True, check=True
    )
    assert "python -m multi_layer_decoding_demo" in done.stdout
