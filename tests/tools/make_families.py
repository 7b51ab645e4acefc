"""The table of what the project can do with each family of decoders, as Markdown: run this and read.

python tests/tools/make_families.py
"""

import argparse
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent.parent / "gpt2_multi_layers_decoding")]

from families import FAMILIES  # noqa: E402
from family_checks import COLUMNS, Subject, outcome  # noqa: E402


def support_table() -> str:
    """A Markdown table of what each family's tiny model showed when it was asked: exact, refused, or WRONG."""
    lines = [f"| family | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for family in FAMILIES:
        subject, cells = Subject(family.build(), family.blocks), []
        for check in COLUMNS.values():
            try:
                cells.append(outcome(check, subject))
            except Exception as error:  # whatever it is, it is no refusal
                cells.append("WRONG")
                print(f"{family.name}: {check.__name__}: {error!r}"[:200], file=sys.stderr)
        lines.append(f"| {family.name} | {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def main() -> int:
    """Print the table; exit code 1 if anything in it is wrong."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)  # threads mostly wait for each other on models this small
    table = support_table()
    print(table, end="")
    return int("WRONG" in table)


if __name__ == "__main__":
    sys.exit(main())
