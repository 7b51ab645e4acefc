"""A GPU against the CPU: what every script asks of the library, on both, and what it costs there beside `generate`.

    python tests/tools/check_cuda.py                      wherever a GPU is; meant to take under four minutes
    python tests/tools/check_cuda.py --device cpu --fast  all of it on the CPU and small, to see that it runs

First the answers: texts must be the same, numbers within 2e-4, and of the whole numbers (ranks, sizes of a nucleus,
further candidates), which rounding moves where thousands of tokens are nearly equal, at most 1 in 100 another. Then the
costs: medians of interleaved runs in one process, ratios to `generate` in the same round. The share of the memory
bandwidth is what reading all weights once a step takes, by the bandwidth measured in the same run, in the time that a
step takes. Exit code 1 if an answer is another, 2 without a GPU.
"""

import argparse
import copy
import dataclasses
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / folder) for folder in ("support", "benchmarks", "../gpt2_multi_layers_decoding")]

from fitted import some_lens  # noqa: E402
from layer_decoding import HalfStep, beam_search, decode_layers, explain, load_model, measure_text, sample  # noqa: E402
from layer_decoding.lens.fitted.file import named_lens  # noqa: E402
from layer_decoding.lens.fitted.linear import FittedLens  # noqa: E402
from layer_decoding.models.loading import quiet_libraries  # noqa: E402
from static_text import static_steps  # noqa: E402
from timing import build_model, bytes_a_token, generate, read_bandwidth, run_in_turn  # noqa: E402

CLOSE = 2e-4  # nats, bits, logits, probabilities
MOVED = 0.01  # of the whole numbers that are no text
TEXTS = {"ids", "text_ids"}


# ---------------------------------------------------------------- the answers


def answers(prompt: list[int], text: list[int], new: int) -> dict[str, Callable[[Any, FittedLens], Any]]:
    """What each script asks of the library, as functions of a model and a lens fitted to it."""

    def static(model: Any, _lens: FittedLens) -> Any:
        with static_steps(len(prompt) + new):
            return decode_layers(model, prompt, new)

    def why(model: Any, _lens: FittedLens) -> Any:
        return explain(model, decode_layers(model, prompt, 3, measures=False), 3)

    return {
        "shared context": lambda model, _: decode_layers(model, prompt, new, track=[prompt[0]]),
        "shared, steps all alike": static,
        "own context": lambda model, _: decode_layers(model, prompt, new, context="own"),
        "half steps": lambda model, _: decode_layers(model, prompt, new, layers=[HalfStep(1), 1, HalfStep(2)]),
        "linear lens": lambda model, lens: decode_layers(model, prompt, new, lens=lens),
        "beam search": lambda model, _: beam_search(model, prompt, new, num_beams=3, layers=[2], trace=True),
        "sampling": lambda model, _: sample(model, prompt, new, num_samples=9, temperature=0.8, top_p=0.95),
        "text": lambda model, _: measure_text(model, text),
        "why": why,
    }


def values(result: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in a result, with the name of the field that it is in."""
    if dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from values(getattr(result, field.name), field.name)
    elif isinstance(result, Mapping):
        for each in result.values():
            yield from values(each, name)
    elif isinstance(result, list | tuple):
        yield f"length of {name}", len(result)
        for each in result:
            yield from values(each, name)
    else:
        yield name, result


def differences(ours: Any, theirs: Any) -> tuple[int, float, float]:
    """Of two results: places where their texts differ, how far numbers are apart, the share of other whole numbers."""
    texts, gap, moved, whole = 0, 0.0, 0, 0
    pairs = list(zip(values(ours), values(theirs), strict=False))
    for (name, one), (other_name, other) in pairs:
        if name != other_name or type(one) is not type(other):
            return len(pairs), gap, 1.0
        if isinstance(one, float):
            gap = max(gap, abs(one - other)) if one != other else gap
        elif isinstance(one, int) and name not in TEXTS and not name.startswith("length"):
            whole, moved = whole + 1, moved + (one != other)
        else:
            texts += one != other
    return texts, gap, moved / max(whole, 1)


def check_answers(name: str, model: Any, lens: FittedLens, device: str, new: int, tokens: int) -> bool:
    """Print a row for each call; whether all answers are the CPU's."""
    vocabulary = model.config.vocab_size
    generator = torch.Generator().manual_seed(1)
    prompt, text = (torch.randint(vocabulary, (count,), generator=generator).tolist() for count in (8, tokens))
    moved_model, moved_lens = copy.deepcopy(model).to(device), lens.on(torch.device(device))
    good = True
    for call, answer in answers(prompt, text, new).items():
        texts, gap, share = differences(answer(moved_model, moved_lens), answer(model, lens))
        same = not texts and gap <= CLOSE and share <= MOVED
        print(f"| {name} | {call} | {'' if same else 'NOT '}the same | {texts} | {gap:.1g} | {share:.2%} |", flush=True)
        good = good and same
    return good


# ---------------------------------------------------------------- the costs


def read(model: Any, text: list[int]) -> None:
    """A plain forward pass over a text, to its loss."""
    ids = torch.tensor([text], device=model.device)
    with torch.inference_mode():
        model(ids, labels=ids, use_cache=False).loss.item()


def ways(model: Any, prompt: list[int], text: list[int], new: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name; the first is the yardstick."""

    def static() -> Any:
        with static_steps(len(prompt) + new):
            return decode_layers(model, prompt, new, measures=False)

    drawn = {
        f"sampling, {count} at once": partial(sample, model, prompt, new, num_samples=count) for count in (1, 8, 64)
    }
    return {
        "generate": partial(generate, model, prompt, new),
        "shared, tokens": partial(decode_layers, model, prompt, new, measures=False),
        "shared, every measure": partial(decode_layers, model, prompt, new),
        "shared, tokens, steps all alike, without a graph": static,
        "own": partial(decode_layers, model, prompt, new, context="own", measures=False),
        **drawn,
        "beam search, 5 beams": partial(beam_search, model, prompt, new, num_beams=5),
        "a plain forward pass": partial(read, model, text),
        "text": partial(measure_text, model, text),
    }


def print_costs(model: Any, prompt: list[int], new: int, tokens: int, rounds: int) -> None:
    """The table of what everything costs."""
    text = torch.randint(model.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(2)).tolist()
    measured = ways(model, prompt, text, new)
    run_in_turn(measured, 1)  # what is made once, is made
    seconds, _ = run_in_turn(measured, rounds)
    device, weights = model.device, bytes_a_token(model)
    bandwidth = read_bandwidth(device, size=2**30 if device.type == "cuda" else 2**26)
    print("| work | ms a step | × generate | share of the bandwidth |\n|---|---:|---:|---:|")
    for name, times in seconds.items():
        if name in ("a plain forward pass", "text"):
            continue
        step = statistics.median(times) / new
        ratio = statistics.median(a / b for a, b in zip(times, seconds["generate"], strict=True))
        print(f"| {name} | {step * 1e3:.2f} | {ratio:.2f} | {weights / bandwidth / step:.0%} |")
    plain, every = seconds["a plain forward pass"], seconds["text"]
    ratio = statistics.median(a / b for a, b in zip(every, plain, strict=True))
    speeds = [tokens / statistics.median(times) for times in (every, plain)]
    print(f"\ntext: {speeds[0]:,.0f} tokens a second, a plain forward pass {speeds[1]:,.0f}: {ratio:.2f} ×")
    print(f"{weights / 1e6:,.0f} MB of weights a step; {bandwidth / 1e9:,.1f} GB/s read")


def main(argv: list[str] | None = None) -> int:
    """Print what was found; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="compared with the CPU; default: %(default)s")
    parser.add_argument("--fast", action="store_true", help="a smaller random model, fewer tokens, one round")
    args = parser.parse_args(argv)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"There is no GPU for torch {torch.__version__} here; add --device cpu --fast to try.", file=sys.stderr)
        return 2
    sizes: dict[str, int] = {"layers": 2, "width": 64, "vocabulary": 1009} if args.fast else {}
    new, tokens, long, rounds = (4, 40, 128, 1) if args.fast else (16, 300, 2048, 5)
    quiet_libraries()
    mini = load_model("mini", device="cpu", dtype="float32")
    lens = named_lens("linear", mini)
    assert lens is not None
    model, prompt = build_model(**sizes)
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(f"{name}, torch {torch.__version__}, float32\n")
    print("| model | asked | answer | texts: places apart | numbers apart | whole numbers moved |")
    print("|---|---|---|---:|---:|---:|")
    same = check_answers("mini", mini.model, lens, args.device, new, tokens)
    same = check_answers("random", model, some_lens(model), args.device, new, tokens) and same
    print()
    print_costs(model.to(device), prompt, new if args.fast else 64, long, rounds)
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
