"""What other work on the cores does to the scripts: each alone, and beside a process that takes one core.

    python tests/benchmarks/busy.py                  about 3 minutes on two cores
    python tests/benchmarks/busy.py --models mini --rounds 1

Whole processes are timed, from the command to the prompt, alone and beside the other in turn, medians. The models are
`mini`, which is computed by one thread, and a random GPT-2 of 124M parameters in a folder, by one a core.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from timing import build_model

CEILING = 3
SOURCE = Path(__file__).parent.parent.parent / "gpt2_multi_layers_decoding"
TALE = Path(__file__).parent.parent / "support" / "tale.txt"
SCRIPTS = {
    "greedy": ["multi_layer_decoding_demo.py"],
    "own context": ["multi_layer_decoding_demo.py", "--context", "own"],
    "beam search": ["multi_layer_beam_search_decoding_demo.py"],
    "sampling": ["multi_layer_sampling_decoding_demo.py", "--temperature", "1"],
    "text": ["multi_layer_text_demo.py", str(TALE)],
}


def save_model(folder):
    """The random GPT-2 and the tokenizer of `mini`, whose ids it knows."""
    build_model()[0].save_pretrained(folder)
    for file in (SOURCE / "layer_decoding" / "mini_gpt2").glob("tokenizer*.json"):
        (Path(folder) / file.name).write_bytes(file.read_bytes())


@contextmanager
def one_core_taken():
    """While open, another process never rests."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def seconds(command, model):
    """How long a script takes as a process of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *command, "--model", model], cwd=SOURCE, capture_output=True, check=True)
    return time.perf_counter() - started


def main():
    """Print a table in Markdown; exit 1 if a script takes longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=["mini", "124M"], default=["mini", "124M"])
    args = parser.parse_args()
    worst = 0.0
    print("| model | script | alone, s | beside another, s | ratio |\n|---|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        if "124M" in args.models:
            save_model(folder)
        for model in args.models:
            for name, command in SCRIPTS.items():
                alone, beside = [], []
                for _ in range(args.rounds):
                    alone.append(seconds(command, folder if model == "124M" else model))
                    with one_core_taken():
                        beside.append(seconds(command, folder if model == "124M" else model))
                quiet, busy = statistics.median(alone), statistics.median(beside)
                worst = max(worst, busy / quiet)
                print(f"| {model} | {name} | {quiet:.2f} | {busy:.2f} | {busy / quiet:.2f}× |", flush=True)
    return int(worst > CEILING)


if __name__ == "__main__":
    sys.exit(main())
