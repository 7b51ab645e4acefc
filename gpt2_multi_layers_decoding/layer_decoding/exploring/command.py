"""The command that prints a text of the explorer, and the view of it, once more."""

import shlex
from collections.abc import Collection, Sequence

from layer_decoding.exploring.board import Board

GREEDY = "multi_layer_decoding_demo.py"
EXPLORER = "multi_layer_explore_demo.py"


def command_of(board: Board, prompt: str, options: Sequence[str], ends: Collection[int] = ()) -> str:
    """The greedy script's where it writes this text, else the keys that led here, for the explorer to play."""
    branch = board.texts.branch
    ends_within = any(token in ends for token in branch.ids[:-1])
    if board.lens == "plain" and branch.ids and branch.is_greedy and not ends_within:
        view = ["--view", "table", *(["--measure", board.measure.option] if board.measure else [])]
        words = [GREEDY, *options, "--max-new-tokens", str(len(branch.ids)), *view]
    else:
        words = [EXPLORER, *options, "--script", " ".join(board.record)]
    # What begins with a dash would be taken for an option.
    return shlex.join(["python", *words, *(["--"] if prompt.startswith("-") else []), prompt])
