"""The command that prints a text of the explorer, and the view of it, once more."""

import shlex
from collections.abc import Callable, Collection, Sequence

from layer_decoding.exploring.board import Board
from layer_decoding.layers import PLAIN_LENS

GREEDY = "python multi_layer_decoding_demo.py"
EXPLORER = "python multi_layer_explore_demo.py"


def command_of(
    board: Board,
    prompt: str,
    options: Sequence[str],
    ends: Collection[int] = (),
    as_called: Callable[[str], str] = str,
) -> str:
    """The greedy script's where it writes this text, else the keys that led here, for the explorer to play.

    `as_called` says how a script is started here.
    """
    branch = board.texts.branch
    ends_within = any(token in ends for token in branch.ids[:-1])
    if board.lens == PLAIN_LENS and branch.ids and branch.is_greedy and not ends_within:
        view = ["--view", "table", *(["--measure", board.measure.option] if board.measure else [])]
        script, words = GREEDY, [*options, "--max-new-tokens", str(len(branch.ids)), *view]
    else:
        script, words = EXPLORER, [*options, "--script", " ".join(board.record)]
    # What begins with a dash would be taken for an option.
    return f"{as_called(script)} {shlex.join([*words, *(['--'] if prompt.startswith('-') else []), prompt])}"
