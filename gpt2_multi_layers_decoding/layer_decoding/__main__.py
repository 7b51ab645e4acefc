"""`python -m layer_decoding`: which scripts there are, and what each is for."""

import ast
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent


def main() -> int:
    """Print a line a script: how it is started, and the first sentence that it says of itself."""
    for file in sorted(SCRIPTS.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        if "layer_decoding" in file.read_text(encoding="utf-8"):
            print(f"python -m {file.stem}\n    {docstring.splitlines()[0]}")
    print("Each says more with --help.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
