"""Every layer's greedy choice by this package, by TransformerLens and by nnsight, beside model.generate.

    python tests/benchmarks/others.py --environments ~/benchmark      about 15 minutes on two cores, installing aside
    python tests/benchmarks/others.py --quick                         a toy shape: does everything still run?

Random GPT-2s of width 768 in float32 on the CPU continue 8 tokens: 12 blocks (124M parameters), 24 and 48 of the same
width, so that depth alone changes. Each library runs in an environment of its own, made in the folder if it is not
there yet, on the same weights and with this environment's versions of torch and transformers. Ratios are to `generate`
in the same process, runs in turn, medians; ways several times slower than the others run once.

Installing asks pip for the torch that runs here. If pip would take a build of torch larger than you want, give it the
source of yours in the usual way, such as PIP_FIND_LINKS.
"""

import argparse
import functools
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from timing import (
    VOCABULARY,
    WIDTH,
    build_model,
    differing,
    generate,
    hidden_states_without_cache,
    ours,
    run_in_turn,
    versions,
)


class Case(NamedTuple):
    """A model's depth and a length; the long one is for ours alone, and in fewer runs."""

    layers: int
    new: int
    with_others: bool = True


FULL = (Case(12, 64), Case(24, 64), Case(48, 256, with_others=False))
QUICK = (Case(2, 6), Case(3, 6), Case(4, 12, with_others=False))
LONG_RUNS = 2
UNCACHED = "the whole text again for each token, a projection a layer"
OURS = {
    "ours, shared context, tokens only": {"measures": False},
    "ours, shared context, every measure": {},
    "ours, own context": {"context": "own", "measures": False},
}
LIBRARIES = {"transformer-lens": "TransformerLens", "nnsight": "nnsight"}
PINNED = {"transformer-lens": "4.3.0", "nnsight": "0.8.1"}


class NotMeasuredError(Exception):
    """Why a library could not be measured, in one phrase."""


def run(command, what, **options):
    """A program's standard output, or the last line that it complained with."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, **options)
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"{what} took more than half an hour") from error
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise NotMeasuredError(f"{what} failed: {last[:200].replace('|', '/')}")
    return done.stdout


def make_environment(folder, library):
    """The python of an environment that holds the library beside our versions of torch and transformers."""
    target = folder / library
    python = target / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (target / "pyvenv.cfg").exists():
        run([sys.executable, "-m", "venv", target], "making an environment")
    same = [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in ("torch", "transformers")]
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, f"{library}=={PINNED[library]}", *same], "installing with pip")
    return python


def measure_library(python, library, folder):
    """What the worker printed: see there."""
    worker = Path(__file__).with_name("others_worker.py")
    out = run([python, worker, library, folder], "running it", env=os.environ | {"HF_HUB_OFFLINE": "1"})
    return json.loads(out.splitlines()[-1])


def measure_ours(model, prompt, case, runs):
    """What a worker prints, of ours and the common way in this process."""
    ways = {name: functools.partial(ours, **options) for name, options in OURS.items()}
    if case.with_others:
        ways[UNCACHED] = hidden_states_without_cache
    ways = {"generate": generate, **ways}
    for way in ways.values():
        way(model, prompt, 2)  # what only a first run pays
    timed = {name: functools.partial(way, model, prompt, case.new) for name, way in ways.items()}
    seconds, tokens = run_in_turn(timed, runs, {UNCACHED})
    differ = {name: differing([row], [tokens["generate"]]) for name, row in tokens.items()}
    return {"versions": versions(), "seconds": seconds, "differ_from_generate": differ}


def save_work(model, prompt, case, runs, folder):
    """The model and what a worker is to do with it, for libraries in other processes."""
    import transformers

    from layer_decoding import decode_layers

    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    rows = [list(row.ids) for row in decode_layers(model, prompt, case.new, measures=False).rows]
    work = {"prompt": prompt, "new": case.new, "runs": runs, "rows": rows}
    (folder / "work.json").write_text(json.dumps(work))


def measure_case(case, shape, runs, pythons):
    """One model and length, ours here and each library with its python: {who: result, or the reason for none}."""
    model, prompt = build_model(case.layers, **shape)
    runs = runs if case.with_others else min(runs, LONG_RUNS)
    say(f"{heading(case)}: ours")
    results = {"ours": measure_ours(model, prompt, case, runs)}
    if not case.with_others:
        return results
    with tempfile.TemporaryDirectory() as folder:
        save_work(model, prompt, case, runs, Path(folder))
        del model
        for library, python in pythons.items():
            say(f"{heading(case)}: {LIBRARIES[library]}")
            ready = isinstance(python, Path)
            results[library] = attempt(measure_library, python, library, folder) if ready else python
    return results


def attempt(function, *arguments):
    """What a function returns, or why it could not."""
    try:
        return function(*arguments)
    except NotMeasuredError as error:
        return str(error)


def say(line):
    """Progress, apart from the table."""
    print(line, file=sys.stderr, flush=True)


def heading(case):
    """A case as a column's head."""
    return f"{case.layers} layers, {case.new} tokens"


def cell(result, name):
    """A way's ratio to the `generate` beside it, and its seconds; or why there are none."""
    if not isinstance(result, dict):
        return f"not measured: {result}" if result else ""
    seconds = result["seconds"]
    if name not in seconds:
        return ""
    median = statistics.median(seconds[name])
    return f"{median / statistics.median(seconds['generate']):.2f}× ({median:.2f} s)"


def print_rows(results, who, names, title=""):
    """A row a way, a cell a case."""
    for name in names:
        print(
            f"| {': '.join(filter(None, (title, name)))} | "
            + " | ".join(cell(result.get(who), name) for result in results.values())
            + " |"
        )


def ways_by_speed(results, library):
    """A library's ways, the fastest over all cases first; one empty name if none ran."""
    measured = [result[library]["seconds"] for result in results.values() if isinstance(result.get(library), dict)]
    names = [name for name in measured[0] if name != "generate"] if measured else [""]
    return sorted(names, key=lambda name: sum(statistics.median(seconds[name]) for seconds in measured))


def print_tables(results):
    """Ratios: each library by its fastest way, then by its others."""
    ways = {library: ways_by_speed(results, library) for library in LIBRARIES}
    head = " | ".join(map(heading, results)) + " |\n|---|" + "---:|" * len(results)
    print(f"| way | {head}")
    print_rows(results, "ours", ("generate", *OURS, UNCACHED))
    for library, title in LIBRARIES.items():
        print_rows(results, library, ways[library][:1], title)
    if any(names[1:] for names in ways.values()):
        print(f"\n| the libraries' slower ways | {head}")
    for library, title in LIBRARIES.items():
        print_rows(results, library, ways[library][1:], title)


def print_notes(results, runs):
    """What the numbers rest on: runs, versions, each process's `generate`, tokens that differ."""
    import torch

    print(f"\nMedians of {runs} runs ({min(runs, LONG_RUNS)} of the longest case, 1 of the slow ways),", end=" ")
    print(f"{torch.get_num_threads()} threads.")
    for who, title in {"ours": "ours", **LIBRARIES}.items():
        measured = {case: result[who] for case, result in results.items() if isinstance(result.get(who), dict)}
        if measured:
            found = next(iter(measured.values()))["versions"].items()
            print(f"- {title}: {', '.join(f'{name} {version}' for name, version in found)}.")
        for case, result in measured.items():
            print(
                f"  {heading(case)}: generate took {statistics.median(result['seconds']['generate']):.2f} s;", end=" "
            )
            print(f"{max(result['differ_from_generate'].values())} of {case.new} tokens differ from it", end="")
            rows = result.get("differ_from_ours")
            print(f", {max(rows.values())} of all layers' {case.new * case.layers} from ours." if rows else ".")


def main():
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--environments", type=Path, help="folder for the libraries' environments, kept (else temporary)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a toy shape and few tokens: the numbers mean nothing")
    args = parser.parse_args()
    shape = {"width": 64, "vocabulary": 500} if args.quick else {"width": WIDTH, "vocabulary": VOCABULARY}
    with tempfile.TemporaryDirectory() as temporary:
        pythons = {}
        for library, title in LIBRARIES.items():
            say(f"{title}: its environment")
            pythons[library] = attempt(make_environment, args.environments or Path(temporary), library)
        cases = QUICK if args.quick else FULL
        results = {case: measure_case(case, shape, args.runs, pythons) for case in cases}
    print_tables(results)
    print_notes(results, args.runs)


if __name__ == "__main__":
    main()
