"""What beam_search costs over the generate calls that it shows: one process, interleaved runs, medians.

    python tests/benchmarks/beam.py                      over ten minutes on two cores
    python tests/benchmarks/beam.py --rounds 2 --cases plain

A random GPT-2 of 124M parameters continues 8 tokens by 20 and by 64 with 5 beams. Beside each run of ours runs what
it shows, bare: `generate` with beams, and greedily; without the n-gram rule, and on cut models, where those are shown.
"""

import argparse
import statistics
import time

from timing import build_model

CEILING = 1.10
BEAMS = 5
CASES = {
    "plain": {},
    "trace": {"trace": True},
    "n-gram rule": {"no_repeat_ngram_size": 2},
    "lens": {"lens": True},
    "layers 6 and 9": {"layers": [6, 9]},
}


def bare_calls(model, options):
    """The generate calls that a run shows: [(model, arguments)]."""
    from layer_decoding import truncate

    beams = {"num_beams": BEAMS, "num_return_sequences": BEAMS}
    size = options.get("no_repeat_ngram_size", 0)
    models = [model, *(truncate(model, layer) for layer in options.get("layers", ()))]
    calls = [(shown, kind) for shown in models for kind in ({**beams, "no_repeat_ngram_size": size}, {})]
    return [*calls, (model, {"num_beams": BEAMS})] if size else calls


def run_bare(calls, prompt, new):
    """Run them; the ids of the first, which is the main search."""
    import torch

    ids = torch.tensor([prompt])
    answers = [
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, **options)
        for model, options in calls
    ]
    return answers[0][:, len(prompt) :].tolist()


def measure(model, prompt, new, options, rounds):
    """Seconds of the bare calls and of ours in each round, after one round that is not counted."""
    from layer_decoding import beam_search

    calls = bare_calls(model, options)
    bare, ours = [], []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        expected = run_bare(calls, prompt, new)
        between = time.perf_counter()
        search = beam_search(model, prompt, new, num_beams=BEAMS, **options)
        ours.append(time.perf_counter() - between)
        bare.append(between - started)
        assert [list(text.ids) for text in search.hypotheses] == expected
    return bare[1:], ours[1:]


def main():
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tokens", nargs="+", type=int, default=[20, 64])
    args = parser.parse_args()
    model, prompt = build_model()
    print("| case | tokens | bare generate calls, s | beam_search, s | ratio | ceiling |")
    print("|---|---:|---:|---:|---:|---:|")
    for new in args.tokens:
        for case in args.cases:
            bare, ours = map(statistics.median, measure(model, prompt, new, CASES[case], args.rounds))
            ceiling = "" if case == "lens" else f"{CEILING:.2f}×"  # the lens shows more than the calls beside it
            print(f"| {case} | {new} | {bare:.2f} | {ours:.2f} | {ours / bare:.2f}× | {ceiling} |", flush=True)


if __name__ == "__main__":
    main()
