"""What samples cost: eight against one, and against model.generate; one process, interleaved, medians.

    python tests/benchmarks/sampling.py                  about 4 minutes on two cores
    python tests/benchmarks/sampling.py --rounds 1       a first impression

A random GPT-2 of 124M parameters (12 layers, width 768, 50,257 tokens) continues 8 tokens by 64. Ratios are to one
sample of ours, in pairs of the same round; eight samples are to cost at most 2.5 times as much.
"""

import argparse
import statistics
import sys
import time

from timing import NEW_TOKENS, build_model

CEILING = 2.5
ONE, EIGHT = "ours, 1 sample", "ours, 8 samples"


def ours(model, prompt, num_samples, **options):
    """Our texts, their numbers included."""
    from layer_decoding import sample

    return [drawn.ids for drawn in sample(model, prompt, NEW_TOKENS, num_samples=num_samples, **options).samples]


def generate(model, prompt, num_samples, **options):
    """The library's texts, pure unless told otherwise, without any numbers."""
    import torch

    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NEW_TOKENS,
        do_sample=True,
        num_return_sequences=num_samples,
        pad_token_id=0,
        **({"top_k": 0, "top_p": 1.0} | options),
    )
    return [tuple(row) for row in out[:, len(prompt) :].tolist()]


WAYS = {
    ONE: lambda m, p: ours(m, p, 1),
    EIGHT: lambda m, p: ours(m, p, 8),
    "ours, 8 samples, top-p 0.9": lambda m, p: ours(m, p, 8, top_p=0.9),
    "generate, 1 sample": lambda m, p: generate(m, p, 1),
    "generate, 8 samples": lambda m, p: generate(m, p, 8),
    "generate, 8 samples, top-p 0.9": lambda m, p: generate(m, p, 8, top_p=0.9),
}


def measure(rounds):
    """Seconds of each way in each round, after one that does not count: {name: [seconds]}."""
    model, prompt = build_model()
    seconds = {name: [] for name in WAYS}
    for number in range(-1, rounds):
        texts = {}
        for name, way in WAYS.items():
            started = time.perf_counter()
            texts[name] = way(model, prompt)
            if number >= 0:
                seconds[name].append(time.perf_counter() - started)
        assert texts[ONE] == texts[EIGHT][:1], "the first sample depends on how many there are"
    return seconds


def main():
    """Print the table; exit 1 if eight samples cost more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    seconds = measure(parser.parse_args().rounds)
    print(f"| work, {NEW_TOKENS} tokens | ms a step | ratio to {ONE} |\n|---|---|---|")
    ratios = {}
    for name, times in seconds.items():
        ratios[name] = statistics.median(time / one for time, one in zip(times, seconds[ONE], strict=True))
        print(f"| {name} | {statistics.median(times) / NEW_TOKENS * 1e3:.1f} | {ratios[name]:.2f} |")
    return int(ratios[EIGHT] > CEILING)


if __name__ == "__main__":
    sys.exit(main())
