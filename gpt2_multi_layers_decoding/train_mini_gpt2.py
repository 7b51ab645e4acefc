"""Train a small GPT-2 of your own, tokenizer and model, from one text or from questions and answers.

Shape and batch are chosen from the amount of text, the minutes and the device, and each can be given. Prints what
was chosen and what to expect, then a progress bar with the training loss and, at each checkpoint, the loss on
held-out documents in bits per byte, or how many of the answers come out exactly. The folder it writes opens with every
other script here as --model FOLDER. Run again, it goes on from its last checkpoint.

    python train_mini_gpt2.py tales.txt --minutes 60            as far as an hour goes
    python train_mini_gpt2.py tales.txt --steps 3000 --seed 1   the same model every time on one machine
    python train_mini_gpt2.py tales.txt --score my_gpt2         bits per byte of a trained folder

A dialogue is a line of question, tab, answer. All of them are learnt; `--ask` answers greedily. As the PROMPT of
another script the question does: the model begins its answer with the newline that it learnt to put between.

    python train_mini_gpt2.py --dialogues talk.tsv --tokenizer characters --steps 150
    python train_mini_gpt2.py --ask "How are you?"
    python multi_layer_decoding_demo.py "How are you?" --model ./my_gpt2
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import os
import sys
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layer_decoding.cli.input import read_prompt
from layer_decoding.cli.options import Parser, add_device, add_shell_options, parse_seed, whole_number
from layer_decoding.cli.running import notice, run
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.terminal.hidden import escape

if TYPE_CHECKING:
    from layer_decoding.training.data import Dialogues, Documents
    from layer_decoding.training.recipe import Progress
    from layer_decoding.training.run import Run

DEFAULT_MINUTES = 10.0
PURPOSE = "Train a small GPT-2 of your own: tokenizer and model, from one file."
USAGE = """%(prog)s TEXT [OPTION ...]
       %(prog)s --dialogues FILE [OPTION ...]
       %(prog)s --ask QUESTION [--out FOLDER]"""
EXAMPLES = """
python train_mini_gpt2.py tales.txt --minutes 60
python train_mini_gpt2.py tales.txt --steps 9000 --bfloat16 --compile
python train_mini_gpt2.py tales.txt --score my_gpt2
python train_mini_gpt2.py --dialogues talk.tsv --tokenizer characters
python train_mini_gpt2.py --ask "How are you?"
python multi_layer_decoding_demo.py "How are you?" --model ./my_gpt2
"""
FOR_ASKING = {"ask", "out", "device", "quiet", "debug", "command"}  # what has a meaning beside --ask
SHAPE = ("layers", "width", "heads", "context", "vocabulary")
RECIPE = ("tokenizer", *SHAPE, "batch", "learning_rate", "dropout", "seed")


def build_parser() -> Parser:
    """The command line of this script; what has no default is chosen, see `training.choosing`."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.usage = USAGE
    parser.add_argument(
        "text", nargs="?", type=Path, metavar="TEXT", help="any UTF-8 text; <|endoftext|> between documents"
    )
    parser.add_argument("--dialogues", type=Path, metavar="FILE", help="instead: lines of question, tab, answer")
    parser.add_argument("--out", type=Path, default=Path("my_gpt2"), metavar="FOLDER", help="the model's (my_gpt2)")
    parser.add_argument("--ask", metavar="QUESTION", help="answer from the trained folder, - for stdin")
    parser.add_argument("--held-out", type=Path, metavar="FILE", help="score on this, not on a fiftieth of TEXT")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, metavar="M", help=f"train for so long ({DEFAULT_MINUTES:g})")
    length.add_argument("--steps", type=whole_number, metavar="N", help="or for N steps: always the same model")
    length.add_argument("--score", type=Path, metavar="FOLDER", help="score a trained folder instead")
    shape = parser.add_argument_group("shape (chosen for the text, the minutes and the device)")
    shape.add_argument(
        "--tokenizer",
        choices=["bpe", "characters"],
        help="characters: one a token, for Chinese, Thai, ... (bpe)",
    )
    for name in SHAPE:
        shape.add_argument(f"--{name}", type=whole_number, metavar="N")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--batch", type=whole_number, metavar="N", help="windows or dialogues a step (chosen)")
    learning.add_argument("--learning-rate", type=float, metavar="R", help="at its peak (chosen)")
    learning.add_argument("--dropout", type=float, metavar="P", help="share left out at each step (chosen)")
    learning.add_argument("--seed", type=parse_seed, metavar="N", help="of weights and order (0)")
    add_device(learning)
    learning.add_argument("--bfloat16", action=BooleanOptionalAction, help="where it is fast (on a GPU that has it)")
    learning.add_argument("--compile", action="store_true", help="compile the step first: needs a C++ compiler")
    add_shell_options(parser.add_argument_group("output"))
    return parser


def show(args: Namespace) -> None:
    """Train, score or ask."""
    check(args)
    from layer_decoding.models.loading import quiet_libraries

    if not args.debug:
        quiet_libraries()
    if args.ask is not None:
        ask(args)
        return
    if args.dialogues:
        # Steps are short: threads that spin while they wait make each three times as long on a busy machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    notice(args, f"Reading {args.text or args.dialogues} …")
    from layer_decoding.training.data import Dialogues, Documents

    data = Dialogues(args.dialogues) if args.dialogues else Documents(args.text, args.held_out)
    if args.score:
        score(args, data)
    else:
        train_folder(args, data)


def check(args: Namespace) -> None:
    """Refuse what cannot be meant together, and numbers that no model can have."""
    if args.ask is not None:
        check_asking(args)
    elif not args.text and not args.dialogues:
        raise UsageError("There is nothing to learn from; name a TEXT, or --dialogues FILE, or --ask a trained folder.")
    elif args.text and args.dialogues:
        raise UsageError("TEXT and --dialogues are two kinds of data, and a run takes one; leave one out.")
    if args.dialogues and args.held_out:
        raise UsageError("All dialogues are learnt and scored, so that none is held out; leave out --held-out.")
    if args.width and args.heads and args.width % args.heads:
        raise UsageError(f"The width of {args.width} is not a multiple of the {args.heads} heads; change --heads.")
    if args.vocabulary is not None and args.vocabulary < 257:
        raise UsageError(f"The vocabulary of {args.vocabulary} is too small; 256 bytes and end-of-text need 257.")
    if args.minutes is not None and not 0 < args.minutes < float("inf"):
        raise UsageError(f"Training for {args.minutes} minutes is not possible; give a number above 0.")
    if args.learning_rate is not None and not 0 < args.learning_rate < 1:
        raise UsageError(f"The learning rate of {args.learning_rate} is out of range; give one between 0 and 1.")
    if args.dropout is not None and not 0 <= args.dropout < 1:
        raise UsageError(f"A dropout of {args.dropout} is out of range; give a share from 0 to below 1.")


def check_asking(args: Namespace) -> None:
    """Refuse options that --ask would leave unused."""
    defaults = build_parser()
    for name, value in vars(args).items():
        if name not in FOR_ASKING and value != defaults.get_default(name):
            option = "TEXT" if name == "text" else f"--{name.replace('_', '-')}"
            raise UsageError(f"--ask takes the trained folder as it is (--out, --device); leave out {option}.")


def ask(args: Namespace) -> None:
    """Print a trained folder's answer, alone."""
    question = read_prompt(args.ask).strip() if args.ask.strip() else ""
    if not question:
        raise UsageError("The question is empty; give some text.")
    if not (args.out / "model.safetensors").is_file():
        raise LayerDecodingError(
            f"{args.out} holds no trained model; train one with TEXT or --dialogues, or name --out."
        )
    from layer_decoding.models.loading import load_model
    from layer_decoding.training.dialogues import answer

    loaded = load_model(f"{args.out}/", args.device, on_notice=lambda sentence: notice(args, sentence))
    text, finished = answer(loaded.model, loaded.tokenizer, question)
    print(escape(text))
    if not finished:
        notice(args, "The answer came to no end: it fills the context.")


def score(args: Namespace, data: "Documents | Dialogues") -> None:
    """Print what a trained folder has learnt of the data."""
    from layer_decoding.models.loading import load_model

    loaded = load_model(f"{args.score}/", args.device, on_notice=lambda sentence: notice(args, sentence))
    print("\n".join(data.report(loaded.model, loaded.tokenizer)))


def train_folder(args: Namespace, data: "Documents | Dialogues") -> None:
    """Train and write the folder: checkpoints, and at the end the model with its tokenizer."""
    from layer_decoding.training.recipe import Length
    from layer_decoding.training.run import Run

    given = {name: value for name in RECIPE if (value := getattr(args, name)) is not None}
    length = Length(args.steps, 60 * (args.minutes or DEFAULT_MINUTES))
    prepared = Run(data, args.out, given, length, args.device, bfloat16=args.bfloat16, compiled=args.compile)
    if prepared.progress.step:
        notice(args, f"Going on from step {prepared.progress.step:,} of {prepared.folder.checkpoint}.")
    print("\n".join(prepared.plan()), flush=True)
    bar = Bar(args, prepared)
    try:
        taken = prepared.train(bar)
    finally:
        bar.close()
    if not taken:
        notice(args, f"{args.out} had gone as far before; raise --steps or --minutes, or name another --out.")
    print(f"Wrote {args.out}; open it with --model {args.out}/")


class Bar:
    """The progress bar of a run, and a line at each of its checkpoints."""

    def __init__(self, args: Namespace, run_: "Run") -> None:
        from tqdm import tqdm

        self.run = run_
        self.bar = tqdm(total=args.steps, unit="step", disable=args.quiet or None, dynamic_ncols=True)

    def on_loss(self, progress: "Progress", loss: float) -> None:
        """Move the bar."""
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update(progress.step - self.bar.n)

    def on_checkpoint(self, progress: "Progress") -> None:
        """Print the score."""
        self.bar.write(f"step {progress.step}: {self.run.score()}", sys.stdout)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
