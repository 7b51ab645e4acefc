"""The scripts that teach: what each builds by hand against the real thing, its numbers by hand, and its screen."""

import copy
import doctest
import io
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

import attention_from_scratch_demo as attention
import gpt2_facts_demo as facts
import gpt2_forward_pass_demo as forward
import skip_model_demo as skip
from conftest import SOURCE, random_gpt2
from layer_decoding.teaching import byte_pairs, word_votes
from layer_decoding.teaching.lesson import Steps, lesson_parser, load_gpt2, proof
from layer_decoding.teaching.page import Page
from layer_decoding.terminal.theme import ASCII, COLOUR, PLAIN, Glyphs, Terminal

IDS = [5, 17, 42, 8, 17, 3]
LESSONS = [
    (forward, []),
    (attention, []),
    (attention, ["A long long", "--layer", "3", "--head", "2"]),
    (skip, []),
    (facts, []),
    (facts, ["--bpe", " unbelievable tales, café"]),
    (facts, ["--train-bpe"]),
]
lessons = pytest.mark.parametrize("script, argv", LESSONS, ids=lambda value: getattr(value, "__name__", None))


@pytest.fixture
def loaded(mini, monkeypatch):
    """A copy of the bundled model for each load, since lessons make it float64; `use(model)` puts another there."""

    def use(model):
        monkeypatch.setattr(
            "layer_decoding.models.loading.load_model", lambda *_, **__: replace(mini, model=copy.deepcopy(model))
        )

    use(mini.model)
    return use


@pytest.fixture
def run(loaded, capsys, monkeypatch):  # noqa: ARG001
    """main(argv) as (exit code, stdout, stderr), nothing piped in."""
    monkeypatch.setattr(sys, "stdin", None)

    def run(script, *argv):
        needs_model = [] if script is skip else ["--model", "mini"]
        code = script.main([*argv, *needs_model, "--quiet"])
        return code, *capsys.readouterr()

    return run


def step_for(model, count):
    c = model.config
    sizes = {"P": count, "L": c.n_layer, "D": c.n_embd, "H": c.n_head, "E": c.n_embd // c.n_head, "F": 4 * c.n_embd}
    return Steps(**sizes, V=c.vocab_size, **{"3D": 3 * c.n_embd})


# ---------------------------------------------------------------- the forward pass


@pytest.mark.parametrize("seed", range(3))
def test_forward_pass_is_the_model(seed):
    model = random_gpt2(seed).double()
    weights = forward.part(dict(model.named_parameters()), "transformer.")
    ours = forward.forward(torch.tensor(IDS), weights, model.config.layer_norm_epsilon, step_for(model, len(IDS)))
    assert (ours - model(torch.tensor([IDS])).logits[0]).abs().max() < 1e-10


def test_its_parts_are_the_library_functions():
    x, gain, shift = torch.randn(5, 16).double() * 30, torch.randn(16).double(), torch.randn(16).double()
    assert torch.allclose(forward.layer_norm(x, gain, shift, 1e-5), functional.layer_norm(x, (16,), gain, shift, 1e-5))
    assert torch.allclose(forward.softmax(x), functional.softmax(x, -1))
    assert forward.softmax(torch.tensor([1e4, 0.0])).tolist() == [1, 0]
    assert torch.allclose(forward.gelu(x), functional.gelu(x, approximate="tanh"))


def test_forward_pass_ends_in_its_proof_and_the_greedy_token(run, mini, prompt_ids):
    code, out, _ = run(forward)
    assert code == 0
    (difference,) = re.findall(
        r"^Largest difference from model\(\.\.\.\)\.logits: (\S+) \(at most 0.0001\)$", out, re.M
    )
    assert out.splitlines()[-1].startswith("Largest difference")
    assert float(difference) <= 1e-4
    probabilities = mini.model(torch.tensor([prompt_ids])).logits[0, -1].softmax(-1)
    best = int(probabilities.argmax())
    row = rf"^\S+ +{best} +{probabilities[best]:.3f}$"
    assert re.search(row, out, re.M)
    assert f"A long long time ago,{mini.tokenizer.decode(best)}\n" in out


def test_another_activation_is_noticed(run, loaded):
    loaded(random_gpt2(vocab_size=4096, activation_function="relu"))
    code, out, err = run(forward)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: By hand and model\(\.\.\.\)\.logits differ by up to .+ more than 0.0001: .+\.\n", err)
    assert run(attention)[0] == 0  # whose part is as it should be


def test_a_shape_is_asserted_not_only_said():
    step = Steps(P=2, D=3)
    step("x", torch.zeros(2, 3), "P D")
    assert step.rows == [("P D", "2 3", "x")]
    with pytest.raises(AssertionError, match=r"\(2, 3\) is not \[D P\] = \(3, 2\)"):
        step("x", torch.zeros(2, 3), "D P")


def test_proof_refuses_what_is_too_far_or_no_number():
    assert proof("it", 1e-5, 1e-5) == "Largest difference from it: 1e-05 (at most 1e-05)"
    for wrong in (1.1e-5, float("nan")):
        with pytest.raises(Exception, match="differ by up to"):
            proof("it", wrong, 1e-5)


# ---------------------------------------------------------------- attention


def test_each_step_is_the_library_attention():
    torch.manual_seed(0)
    x, step = torch.randn(5, 8).double(), Steps(P=5, D=8, H=2, E=4)
    head = attention.Head(*(torch.randn(8, 4).double() for _ in range(3)), *(torch.randn(4).double() for _ in range(3)))
    q, k, v = x @ head.w_q + head.b_q, x @ head.w_k + head.b_k, x @ head.w_v + head.b_v
    library = functional.scaled_dot_product_attention
    assert torch.allclose(attention.without_weights(x, step)[1], library(x, x, x))
    assert torch.allclose(attention.with_weights(x, head, step)[1], library(q, k, v))
    weights, mixed = attention.with_weights(x, head, step, causal=True)
    assert torch.allclose(mixed, library(q[None], k[None], v[None], is_causal=True)[0])
    assert torch.equal(weights.triu(1), torch.zeros(5, 5).double())


def test_every_block_of_the_bundled_model(mini, prompt_ids):
    """Its answer to 1e-5 in float32, and every head's map against the library's own."""
    eager = copy.deepcopy(mini.model)
    eager.set_attn_implementation("eager")
    maps = eager(torch.tensor([prompt_ids]), output_attentions=True).attentions
    for layer in range(1, 13):
        x, theirs = attention.watch_attention(mini.model, torch.tensor(prompt_ids), layer)
        block = mini.model.transformer.h[layer - 1].attn
        heads = attention.heads_of(block, mini.model.config.n_head)
        step = step_for(mini.model, len(prompt_ids))
        weights, ours = attention.multi_head(x, heads, block.c_proj.weight, block.c_proj.bias, step)
        assert (ours - theirs).abs().max() <= 1e-5
        assert torch.allclose(torch.stack(weights), maps[layer - 1][0], atol=1e-5)
        assert not block._forward_hooks


def test_attention_ends_in_its_proof_and_draws_every_head(run, mini):
    code, out, _ = run(attention, "--layer", "9", "--head", "2")
    assert code == 0
    (difference,) = re.findall(r"^Largest difference from the attention of block 9: (\S+) ", out, re.M)
    assert float(difference) <= 1e-5
    assert re.findall(r"head (\d+)", out[out.index("4 Multi-head") :]) == [
        str(head) for head in range(1, mini.model.config.n_head + 1)
    ]
    assert "these are head 2's" in out


@pytest.mark.parametrize("option, wrong", [("--layer", "13"), ("--head", "99"), ("--layer", "0")])
def test_layers_and_heads_that_are_not_there(run, option, wrong):
    code, out, err = run(attention, option, wrong)
    assert (code, out) == (2, "")
    assert wrong in err


@pytest.mark.parametrize("script", [forward, attention])
def test_too_long_a_prompt_and_another_kind_of_model(run, loaded, mini, script):
    code, out, err = run(script, " the" * 600)
    assert (code, out) == (2, "")
    assert "600 tokens" in err
    assert run(script, "")[0] == 2
    other = copy.deepcopy(mini.model)
    other.config.model_type = "llama"
    loaded(other)
    code, out, err = run(script)
    assert (code, out) == (1, "")
    assert "of type llama" in err


# ---------------------------------------------------------------- the skip model


def test_votes_by_hand():
    """Nine pairs end in "ran": eight were seen in both sentences, half a vote each way; one in a single sentence."""
    pairs = skip.transitions(skip.TEXTS, skip.pairs_of)
    half, one = Fraction(1, 2), Fraction(1)
    for word in ("check", "the", "log", "and", "find", "out", "whether", "it"):
        assert pairs[word, "ran"] == {"please": half, "down": half}
    assert pairs["program", "ran"] == {"please": one}
    assert pairs["battery", "ran"] == {"down": one}
    program, battery = skip.HARD
    assert skip.vote(skip.pairs_of(program), pairs, pairs) == {"please": 5, "down": 4}
    assert skip.vote(skip.pairs_of(battery), pairs, pairs) == {"down": 5, "please": 4}
    kept = skip.telling(skip.TEXTS)
    assert kept == [("program", "ran"), ("battery", "ran")]
    assert skip.vote(skip.pairs_of(program), pairs, kept) == {"please": 1}
    assert skip.vote(skip.pairs_of(battery), pairs, kept) == {"down": 1}


def test_the_block_is_the_counting():
    pairs = skip.transitions(skip.TEXTS, skip.pairs_of)
    kept = skip.telling(skip.TEXTS)
    assert skip.difference(pairs, kept) == skip.difference(pairs, pairs) == 0
    found = skip.run_block(skip.HARD[0], pairs, kept)
    assert found.scores == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert found.pairs == [("program", "ran")]
    assert found.votes == {"please": 1}
    unmasked = skip.run_block(skip.HARD[0], pairs, pairs)
    assert (unmasked.scores, len(unmasked.pairs)) == ([1] * 9, 9)
    assert unmasked.votes == {"please": 5, "down": 4}


def test_a_wrong_weight_is_noticed(monkeypatch):
    pairs = skip.transitions(skip.TEXTS, skip.pairs_of)
    matrices_of = skip.matrices_of

    def wrong(*arguments):
        m, w_1, w_2 = matrices_of(*arguments)
        return m, w_1, w_2 * 2

    monkeypatch.setattr(skip, "matrices_of", wrong)
    assert skip.difference(pairs, pairs) > 0


def test_skip_model_says_its_votes(run):
    code, out, _ = run(skip)
    assert code == 0
    for line in ("9 pairs vote please 5, down 4", "ran…: please 1, down 0", "ran…: down 1, please 0"):
        assert line in out
    assert "13**8 = 815,730,721 runs of 8" in out
    said = " ".join(out.split())
    for word, votes in (("program", "please 1, down 0"), ("battery", "down 1, please 0")):
        assert f"of the 9 words before it 1 answers: {word}. So the stream is ran and {word}" in said
        assert f"1 of the 64 units is not 0: {word}, ran. Votes: {votes}." in said
    assert "9 of the 9 words would answer in the first sentence, 9 units would be 1" in said
    assert "the votes please 5, down 4: those of part 2" in said
    assert out.endswith("Largest difference from counting: 0 (at most 0)\n")


@pytest.mark.parametrize("module", [word_votes, byte_pairs], ids=lambda module: module.__name__)
def test_worked_examples(module):
    failed, tried = doctest.testmod(module)
    assert failed == 0
    assert tried >= 4


# ---------------------------------------------------------------- where they run


@pytest.mark.parametrize("script", [forward, attention, facts, skip])
def test_a_device_that_is_not_here_is_refused(script, capsys):
    assert script.main(["--device", "cuda"]) == 1
    assert "The device cuda is not here: torch finds cpu" in capsys.readouterr().err


@pytest.mark.parametrize("argv, reason", [([], "no GPU was found"), (["--device", "cpu"], "as asked")])
@pytest.mark.parametrize("script", [forward, skip])
def test_where_a_lesson_runs_is_said_with_the_reason(script, argv, reason, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert script.main([*argv, *([] if script is skip else ["--model", "mini"])]) == 0
    told = capsys.readouterr().err
    assert f"on cpu ({reason})" in told
    assert told.count("as asked") == len(argv) / 2


def test_the_device_reaches_the_matrices(monkeypatch, capsys):
    """One that computes nothing: the first number to be read off it is not there."""
    monkeypatch.setattr("layer_decoding.models.devices.pick_device", lambda _: ("meta", "a test"))
    assert skip.main([]) == 1
    assert "meta" in capsys.readouterr().err.partition("error: ")[2]


def test_apples_gpu_has_no_float64(mini, monkeypatch, capsys):
    elsewhere = replace(mini, model=copy.deepcopy(mini.model), device="mps")
    monkeypatch.setattr("layer_decoding.models.loading.load_model", lambda *_, **__: elsewhere)
    moved = []
    monkeypatch.setattr(type(mini.model), "to", lambda _, *where: moved.append(where))
    args = lesson_parser("purpose", "example").parse_args(["--model", "mini"])
    loaded, _ = load_gpt2(args, "Once")
    assert moved == [("cpu",)]
    assert loaded.model.dtype is torch.float64
    assert "no float64" in capsys.readouterr().err


# ---------------------------------------------------------------- facts


TOTALS = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}


@pytest.mark.parametrize("name", TOTALS)
def test_parameters_by_part(name):
    """The formula against the shapes that transformers builds, part by part."""
    layers, width, heads = facts.FAMILY[name]
    config = GPT2Config(n_layer=layers, n_embd=width, n_head=heads)
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    part_of = {"wte": "token embeddings", "wpe": "position embeddings", "attn": "attention", "mlp": "MLP"}
    counted = Counter()
    for weight, tensor in model.named_parameters():
        part = next((part for piece, part in part_of.items() if piece in weight.split(".")), "layer norms")
        counted[part] += tensor.numel()
    assert facts.parameters(config) == counted
    assert counted.total() == TOTALS[name]


def test_facts_names_every_total(run):
    code, out, _ = run(facts)
    assert code == 0
    (totals,) = re.findall(r"^all parameters (.+)$", out, re.M)
    assert totals.split() == [f"{total:,}" for total in TOTALS.values()]
    assert re.search(r"^MB in float16 +249 +710 +1,548 +3,115$", out, re.M)


def test_a_wrong_formula_is_noticed(run, monkeypatch):
    monkeypatch.setattr(facts, "parameters", lambda _: {"all": 1})
    code, out, err = run(facts)
    assert (code, out) == (1, "")
    assert "must agree" in err


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.from_regex(r"[ a-zA-Z']{1,20}", fullmatch=True)
)
def test_merges_are_the_tokenizers(mini_ranks, text):
    tokenizer, ranks = mini_ranks
    ids = []
    for word, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text):
        ids += tokenizer.convert_tokens_to_ids(byte_pairs.encode(word, ranks))
    assert ids == tokenizer.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module")
def mini_ranks(mini):
    import json

    merges = json.loads(mini.tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return mini.tokenizer, {tuple(pair): rank for rank, pair in enumerate(merges)}


def test_bpe_ends_in_the_tokenizers_ids(run, mini):
    code, out, _ = run(facts, "--bpe", " unbelievable")
    assert code == 0
    ids = " ".join(map(str, mini.tokenizer.encode(" unbelievable")))
    assert out.endswith(f"\nids {ids}: the same as the tokenizer's own\n")
    ranks = [int(rank.replace(",", "")) for rank in re.findall(r"^(\d[\d,]*) +\S", out, re.M)]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize(
    "text, code, words", [("a<|endoftext|>", 1, "special"), ("", 2, "is empty"), ("caf\udce9", 2, "UTF-8")]
)
def test_bpe_refuses(run, text, code, words):
    got, out, err = run(facts, "--bpe", text)
    assert (got, out) == (code, "")
    assert words in err


def test_learning_by_hand():
    """est is in 9 + 4 words; then finest 9 times, lowest 4, older 3; among equals from the left."""
    steps = list(byte_pairs.learn(facts.COUNTS))
    assert [(*pair, count) for pair, count, _ in steps] == [
        ("e", "s", 13),
        ("es", "t", 13),
        ("f", "i", 9),
        ("fi", "n", 9),
        ("fin", "est", 9),
        ("l", "o", 4),
        ("lo", "w", 4),
        ("low", "est", 4),
        ("o", "l", 3),
        ("ol", "d", 3),
        ("old", "e", 3),
        ("olde", "r", 3),
    ]
    assert steps[-1][2] == [["older"], ["finest"], ["lowest"]]


@given(st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 9), min_size=1, max_size=4))
def test_what_is_learnt_is_the_most_frequent(counts):
    words = [list(word) for word in counts]
    for pair, count, after in byte_pairs.learn(counts):
        seen = Counter()
        for symbols, times in zip(words, counts.values(), strict=True):
            for neighbours in pairwise(symbols):
                seen[neighbours] += times
        assert seen[pair] == count == max(seen.values())
        words = after
    assert [symbols == [word] for symbols, word in zip(words, counts, strict=True)]


def test_a_wrong_cut_is_noticed(run, monkeypatch):
    """By hand the words come out as they should; the library is given something else to learn from."""
    monkeypatch.setattr(
        "layer_decoding.teaching.byte_pair_lesson.cut_by_library", lambda _, words: {w: list(w) for w in words}
    )
    code, out, err = run(facts, "--train-bpe")
    assert (code, out) == (1, "")
    assert "must agree" in err


def test_train_bpe_on_the_screen(run):
    code, out, _ = run(facts, "--train-bpe")
    assert code == 0
    assert "oldest is old est, lower is low e r." in out


# ---------------------------------------------------------------- the screen


def plain_of(coloured):
    return re.sub(r"\x1b\[\d+m", "", coloured)


def without_shades(text):
    return "\n".join(line.rstrip() for line in re.sub(f"[{Glyphs().chances}]", " ", text).splitlines())


@lessons
@pytest.mark.parametrize("width", ["80", "33", None])
def test_colour_is_decoration(run, script, argv, width):
    """Less its escapes, and but for the shades, which are colours there, the coloured page is the plain one."""
    size = ["--width", width] if width else []
    code, plain, _ = run(script, *argv, *size, "--color", "never")
    _, coloured, _ = run(script, *argv, *size, "--color", "always")
    assert code == 0
    assert "\x1b" not in plain
    assert "\x1b[1m" in coloured
    assert without_shades(plain_of(coloured)) == without_shades(plain)
    assert all(
        line.count("\x1b[0m") == len(re.findall(r"(?:\x1b\[[1-9]\d*m)+", line)) for line in coloured.splitlines()
    )
    if width == "80":
        assert max(map(len, plain.splitlines())) <= 80


@lessons
def test_ascii_output_has_no_escapes_in_it(loaded, monkeypatch, script, argv):  # noqa: ARG001
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    argv = ["A tale", *argv[1:]] if script is not facts and argv else [part.replace("é", "e") for part in argv]
    assert script.main([*argv, *([] if script is skip else ["--model", "mini"]), "--quiet"]) == 0
    assert not re.search(r"\\[xuU]", raw.getvalue().decode("ascii"))


def test_heat_map_shades_and_blanks():
    weights = [[1, 0, 0], [0.3, 0.7, 0], [0.05, 0.2, 0.75]]
    page = Page(Terminal(PLAIN, Glyphs(), None))
    page.heat_map(weights, ["a", "bc", "d"], causal=True)
    assert page.lines == ["a   ██      100% a", "bc  ▄▄▆▆    70% bc", "d   ··▂▂██  75% d"]
    page = Page(Terminal(PLAIN, ASCII, None))
    page.heat_map(weights, ["a", "bc", "d"], causal=False)
    assert page.lines[0] == "a   ##____  100% a"
    page = Page(Terminal(COLOUR, Glyphs(), None))
    page.heat_map(weights, ["a", "bc", "d"], causal=True)
    assert page.lines[0].startswith(f"a   {COLOUR.paint('  ', 'sure')}")


def test_heat_map_in_a_window_too_narrow_says_what_it_leaves_out():
    count = 30
    page = Page(Terminal(PLAIN, Glyphs(), 40))
    page.heat_map([[1 / count] * count] * count, ["x"] * count)
    assert page.lines[0].startswith("(The last 18 of 30 tokens")
    assert len([line for line in page.lines if line.startswith("x")]) == 18
    assert max(map(len, page.lines)) <= 40


def test_heads_side_by_side_in_even_rows():
    page = Page(Terminal(PLAIN, Glyphs(), 40))
    page.heat_maps([(f"head {n}", [[1, 0], [0, 1]]) for n in range(1, 9)], ["a", "b"])
    assert [line.count("head") for line in page.lines if "head" in line] == [4, 4]
    assert page.lines[:2] == ["   head 1  head 2  head 3  head 4", "a  ██      ██      ██      ██"]


def test_a_table_too_wide_goes_on_below():
    page = Page(Terminal(PLAIN, Glyphs(), 20))
    page.table([("name", "first", "second"), ("x", "1", "22222222")], numbers=True)
    assert page.lines == ["name  first", "x         1", "name    second", "x     22222222"]


@pytest.mark.parametrize("script", [facts, forward, skip, attention])
def test_help_fits_a_screen(script, capsys):
    assert script.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


def test_nothing_heavy_is_imported_before_it_is_needed():
    scripts = "attention_from_scratch_demo, gpt2_facts_demo, gpt2_forward_pass_demo, skip_model_demo"
    names = f"{scripts}, layer_decoding.teaching.lesson"
    code = f"import sys, {names}; assert not {{'torch', 'transformers', 'tokenizers'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=True)
