"""Make the goldens again, after a deliberate change of a layout; read the difference before keeping it.

python tests/tools/make_goldens.py
git diff tests/goldens
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent.parent / "gpt2_multi_layers_decoding")]

from goldens import MEASURED, RESULTS, VIEWS, golden, looked_at_closely, rendered, text_rendered  # noqa: E402


def main():
    """Write every golden anew."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for view in VIEWS:
        for name in RESULTS:
            golden(name, view).write_bytes(rendered(name, view).encode())
        for name in MEASURED:
            golden(name, view).write_bytes(looked_at_closely(name, view).encode())
        golden("text", view).write_bytes(text_rendered(view).encode())


if __name__ == "__main__":
    main()
