"""What every layer costs: ratios to model.generate in the same round, in one process, interleaved, medians.

    python tests/benchmarks/decoding.py                  about 6 minutes on two cores
    python tests/benchmarks/decoding.py --rounds 1 --fast    ours only, one round

A random GPT-2 of 124M parameters (12 layers, width 768, 50,257 tokens) continues 8 tokens by 64. The common
ways, which take minutes, run in `--common-rounds` rounds only. Peak memory is what a way adds to the resident size
of a fresh process that has only loaded the model. The limit below the table is what reading all weights once a token
costs by the memory bandwidth of this machine, measured in the same process: no way is faster.
"""

import argparse
import functools
import statistics
import subprocess
import sys
from operator import truediv
from pathlib import Path

from timing import (
    NEW_TOKENS,
    build_model,
    bytes_a_token,
    generate,
    hidden_states_without_cache,
    ours,
    read_bandwidth,
    run_in_turn,
)

CEILINGS = {"shared, tokens only": 1.05, "shared, every measure, 5 candidates": 1.12, "own context": 1.5}


def truncated_decodes(model, prompt, use_cache):
    """A common way to each layer's own text: twelve decodes of twelve truncated models."""
    from layer_decoding import truncate

    for layer in range(1, 13):
        tokens = generate(truncate(model, layer), prompt, use_cache=use_cache)
    return tokens


OURS = {
    "shared, tokens only": lambda m, p: ours(m, p, measures=False),
    "shared, every measure, 5 candidates": lambda m, p: ours(m, p),
    "own context": lambda m, p: ours(m, p, context="own", measures=False),
    "own context, every measure": lambda m, p: ours(m, p, context="own"),
}
COMMON = {
    "common: shared, no cache, a projection a layer": hidden_states_without_cache,
    "common: own, 12 cached decodes": lambda m, p: truncated_decodes(m, p, True),
    "common: own, 12 uncached decodes": lambda m, p: truncated_decodes(m, p, False),
}
WAYS = {"generate": generate, **OURS, **COMMON}


def measure(model, prompt, names, rounds, common_rounds):
    """Seconds of each way in each round: {name: [seconds]}. Every way must write the same tokens."""
    expected = generate(model, prompt)
    ways = {name: functools.partial(WAYS[name], model, prompt) for name in names}
    slow = [name for name in names if name in COMMON]
    seconds, tokens = run_in_turn(ways, rounds, slow, common_rounds)
    for name in tokens:
        assert tokens[name] == expected, f"{name} writes other tokens than generate"
    return seconds


def limit(model, yardstick):
    """One line: the least that a token can cost here, and how near `generate` comes, given its seconds."""
    weights, bandwidth = bytes_a_token(model), read_bandwidth()
    seconds = weights / bandwidth * NEW_TOKENS
    return (
        f"The limit: {weights / 1e6:.0f} MB of weights a token at {bandwidth / 1e9:.1f} GB/s are {seconds:.2f} s"
        f" ({seconds / yardstick:.2f}×)."
    )


def peak_megabytes(name):
    """Resident memory that a way adds to the loaded model, in a process of its own."""
    out = subprocess.run([sys.executable, __file__, "--peak", name], capture_output=True, text=True, check=True)
    return float(out.stdout)


def print_peak(name):
    """The child's side of peak_megabytes. Linux: the kernel's high-water mark is set back once the model is there."""
    model, prompt = build_model()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_status("VmRSS")
    WAYS[name](model, prompt)
    print((memory_status("VmHWM") - before) / 1024)


def memory_status(field):
    """A line of the kernel's account of this process, in kilobytes."""
    return int(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if field in line))


def main():
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--common-rounds", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="leave out the common ways")
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak)
        return
    names = [name for name in WAYS if not (args.fast and name in COMMON)]
    model, prompt = build_model()
    seconds = measure(model, prompt, names, args.rounds, args.common_rounds)
    print("| way | seconds | ratio to generate | ceiling | peak memory added |")
    print("|---|---:|---:|---:|---:|")
    for name in names:
        median = statistics.median(seconds[name])
        ratio = statistics.median(map(truediv, seconds[name], seconds["generate"]))  # of the same rounds
        ceiling = f"{CEILINGS[name]}×" if name in CEILINGS else ""
        peak = f"{peak_megabytes(name):.0f} MB" if name not in COMMON and sys.platform == "linux" else ""
        print(f"| {name} | {median:.2f} | {ratio:.2f}× | {ceiling} | {peak} |")
    print(f"\n{limit(model, statistics.median(seconds['generate']))}")


if __name__ == "__main__":
    main()
