"""The reference holds what there is: every option of every script, every key of every document, the ten terms."""

import json
import re
from importlib import import_module

import pytest

import make_pages

PAGE = (make_pages.GUIDE / "reference.md").read_text(encoding="utf-8")
TALE = str(make_pages.ROOT / "tests" / "support" / "tale.txt")
FEW = ("--model", "mini", "--max-new-tokens", "2", "--layers", "6")
RUNS = {
    "Greedy": ("multi_layer_decoding_demo", *FEW),
    "Beam search": ("multi_layer_beam_search_decoding_demo", *FEW, "--trace", "--num-beams", "2", "--view", "rows"),
    "Sampling": ("multi_layer_sampling_decoding_demo", *FEW, "--top-k", "5", "--num-samples", "1", "--view", "rows"),
    "Text": ("multi_layer_text_demo", TALE, "--model", "mini", "--layers", "6"),
    "Why": ("multi_layer_decoding_demo", *FEW, "--view", "why", "--heads", "6"),
}
OF_GREEDY = {"Beam search", "Sampling"}  # their rows of a view have the keys of greedy's, and the page says so


def section(title):
    """What stands under a heading, up to the next one as high."""
    level, body = re.search(rf"^(#+) {title}\n(.*)", PAGE, re.DOTALL | re.MULTILINE).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", body, flags=re.MULTILINE)[0]


def keys_of(value):
    """Every key of a document, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("script", [*(run[0] for run in RUNS.values()), "multi_layer_explore_demo"])
def test_every_option_is_there(script, capsys):
    assert import_module(script).main(["--help"]) == 0
    usage = capsys.readouterr().out.partition("examples:")[0]
    assert set(re.findall(r"--[a-z][a-z-]+", usage)) <= set(re.findall(r"--[a-z][a-z-]+", section("Options")))


@pytest.mark.parametrize("name", RUNS)
def test_every_key_is_there(name, capsys):
    script, *argv = RUNS[name]
    assert import_module(script).main([*argv, "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    head = section("JSON").partition("### ")[0]
    said = head + section(name)
    if name in OF_GREEDY:
        assert "](#a-view)" in said
        assert "](#greedy)" in section("A view")
        said += section("Greedy")
    named = set(re.findall(r"`(\w+)`", said)) | {"schema"}
    assert f'"schema": "{document["schema"]}"' in section(name)
    assert keys_of(document) <= named


def test_the_glossary_has_its_ten_terms():
    terms = re.findall(r"^\| ([\w ]+) \| ", section("Glossary"), re.MULTILINE)[1:]
    assert terms == ["token", "logit", "nats", "bits", "KL", "entropy", "settles", "layer 0", "nucleus", "beam"]
