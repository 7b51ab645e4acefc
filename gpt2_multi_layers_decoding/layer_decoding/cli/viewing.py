"""--view and what belongs to it: the ways to look at every layer along a text, the same in every script."""

import argparse
from argparse import Namespace
from collections.abc import Collection
from typing import Any

from layer_decoding.cli.input import argument_text
from layer_decoding.cli.options import whole_number
from layer_decoding.cli.running import notice
from layer_decoding.errors import UsageError
from layer_decoding.terminal.pieces import Pieces

UNSEEN = "in own context the last layer does not read the other layers' texts"


def add_view_options(
    group: "argparse._ArgumentGroup", measures: Collection[str], default: str | None = None, *, text: str
) -> None:
    """--view and what each way needs; `text` is what is looked at, `default` the view where none is named."""
    group.add_argument(
        "--view",
        choices=["rows", "table", "steps", "track", "text", "why"],
        default=default,
        metavar="WAY",
        help=f"{text}: rows, table, steps, track, text, why ({default or 'none'})",
    )
    group.add_argument(
        "--measure",
        choices=list(measures),
        metavar="NAME",
        help=f"numbers: {', '.join(measures)}",
    )
    group.add_argument(
        "--track",
        type=argument_text,
        action="append",
        default=[],
        metavar="TOKEN",
        help="track it; repeat for more (those on top)",
    )
    group.add_argument("--step", type=whole_number, metavar="T", help="the step to track at, or of why (1)")
    group.add_argument("--against", type=argument_text, metavar="TOKEN", help="why not that one (the runner-up)")
    group.add_argument("--heads", type=whole_number, metavar="K", help="why, with layer K's attention head by head")


def check_view(args: Namespace, only_shared: Collection[str] = ()) -> None:
    """Refuse what cannot be meant together, before a model is loaded; `only_shared` measures need the shared text.

    Raises:
        UsageError: with what to leave out or add.
    """
    own = getattr(args, "context", "shared") == "own"
    view = args.view or "not chosen"
    if args.measure and args.view not in ("table", "text"):
        raise UsageError(
            f"--measure is for --view table and --view text, the view is {view}; leave it out or add --view table."
        )
    if (args.track and args.view != "track") or (args.step and args.view not in ("track", "why")):
        option = "--track" if args.track else "--step"
        raise UsageError(f"{option} is for --view track, the view is {view}; leave it out or add --view track.")
    if (args.against is not None or args.heads) and args.view != "why":
        option = "--against" if args.against is not None else "--heads"
        raise UsageError(f"{option} is for --view why, the view is {view}; leave it out or add --view why.")
    if args.view == "text" and own:
        raise UsageError("In own context each layer has a text of its own; use --context shared to shade one text.")
    if args.view in ("track", "why") and own:
        what = "Tracking compares the layers" if args.view == "track" else "Why looks into the layers"
        raise UsageError(f"{what} at one step of one text, and {UNSEEN}; use --context shared.")
    if args.measure in only_shared and own:
        raise UsageError(
            f"Measure {args.measure} compares each layer with the last, and {UNSEEN}; use --context shared."
        )
    if args.against == "":
        raise UsageError("The token to compare with is empty; give one, such as --against ' the'.")
    if "" in args.track:
        raise UsageError("The token to track is empty; give one, such as --track ' the'.")
    most = getattr(args, "max_new_tokens", None)
    if args.step and most is not None and args.step > most:
        raise UsageError(f"Step {args.step} is beyond the {most} tokens to write; lower it or raise --max-new-tokens.")


def tracked_tokens(args: Namespace, pieces: Pieces) -> list[int]:
    """The tokens to track; where a space before one would make it another, a line says so.

    Raises:
        UsageError: a word that is several tokens, saying which.
    """
    for word in args.track:
        if is_another_inside(word, pieces):
            notice(args, f"Tracking '{word}'; with a space before it, ' {word}', it is another token.")
    return [word_id(word, pieces) for word in args.track]


def token_against(args: Namespace, pieces: Pieces) -> int | None:
    """The token of --against, see `word_id`; None where there is none."""
    return None if args.against is None else word_id(args.against, pieces, "--against", "compare with")


def word_id(word: str, pieces: Pieces, option: str = "--track", verb: str = "track") -> int:
    """The token that a word is, as it is given.

    Raises:
        UsageError: it is several, saying which, and whether it is one with a space before it.
    """
    ids = _encode(word, pieces)
    if len(ids) == 1:
        return ids[0]
    parts = ", ".join(f"'{pieces.inside(token)}'" for token in ids)
    mend = f"{verb} one of them"
    if len(_encode(f" {word}", pieces)) == 1:
        mend = f"with a space before it, as inside a text, it is one: {option} ' {word}'"
    raise UsageError(f"The token to {verb}, '{word}', is {len(ids)} tokens, {parts}; {mend}.")


def is_another_inside(word: str, pieces: Pieces) -> bool:
    """Whether a word with a space before it, as it stands inside a text, is one token too, and another."""
    inside = _encode(f" {word}", pieces)
    return len(inside) == 1 and inside != _encode(word, pieces)


def _encode(text: str, pieces: Pieces) -> list[int]:
    tokenizer: Any = pieces.tokenizer
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids
