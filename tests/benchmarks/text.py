"""What reading a text with every layer costs, beside a plain forward pass of the model over the same windows.

    python tests/benchmarks/text.py                about 3 minutes on two cores
    python tests/benchmarks/text.py --windows 1 --rounds 1

A random GPT-2 of 124M parameters (12 layers, width 768, 50,257 tokens) reads random tokens in windows of 1,024,
in one process, the two ways in turn, medians. The plain pass makes the last layer's logits at every position and
its loss; ours makes twelve layers' logits and their measures.
"""

import argparse
import re
import statistics
import time
from pathlib import Path

from timing import build_model


def plain(model, windows):
    """Mean loss of the model over windows, by its own forward pass."""
    import torch

    with torch.inference_mode():
        losses = [model(torch.tensor([w]), labels=torch.tensor([w]), use_cache=False).loss.item() for w in windows]
    return statistics.fmean(losses)


def every_layer(model, windows):
    """The last layer's mean loss, by `measure_text`."""
    from layer_decoding.decoding.text.means import measure_text

    measures = measure_text(model, [token for window in windows for token in window])
    return -measures.layers[-1].mean_logprob_nats


def megabytes(field):
    """Resident memory of this process: VmRSS now, VmHWM at its peak (Linux)."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def added_memory(work):
    """What a piece of work adds to the memory of this process at its peak, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, of making the model, is forgotten
    before = megabytes("VmRSS")
    work()
    return megabytes("VmHWM") - before


def main():
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import torch

    model, _ = build_model()
    windows = torch.randint(50257, (args.windows, 1024), generator=torch.Generator().manual_seed(0)).tolist()
    seconds, losses = {plain: [], every_layer: []}, {}
    added = added_memory(lambda: every_layer(model, windows))
    for _ in range(args.rounds):
        for way in (every_layer, plain):
            started = time.perf_counter()
            losses[way] = way(model, windows)
            seconds[way].append(time.perf_counter() - started)
    assert abs(losses[plain] - losses[every_layer]) < 1e-4
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    tokens = args.windows * 1024
    print("| way | tokens a second | ratio |")
    print("|---|---:|---:|")
    for way, name in ((plain, "plain forward pass"), (every_layer, "every layer, every measure")):
        print(f"| {name} | {tokens / medians[way]:.0f} | {medians[way] / medians[plain]:.2f}× |")
    print(f"\nPeak memory that every layer adds to the loaded model: {added:.0f} MB.")


if __name__ == "__main__":
    main()
