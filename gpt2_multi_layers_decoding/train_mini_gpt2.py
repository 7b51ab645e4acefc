"""Train a small GPT-2 of your own: a byte-level BPE tokenizer and a model, from one text file.

Prints the size of the data and of the model, then a progress bar with the training loss and, at each
checkpoint, the loss on held-out documents in bits per byte. The folder it writes opens with every other
script here as --model FOLDER. Run again, it goes on from its last checkpoint.

    python train_mini_gpt2.py tales.txt --minutes 60            as far as an hour goes
    python train_mini_gpt2.py tales.txt --steps 3000 --seed 1   the same model every time on one machine
    python train_mini_gpt2.py tales.txt --score my_gpt2         bits per byte of a trained folder
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_decoding.arguments import Parser, add_shell_options, whole_number
from layer_decoding.command import notice, run
from layer_decoding.errors import LayerDecodingError, UsageError

if TYPE_CHECKING:
    from layer_decoding.training import Progress

DEFAULT_STEPS = 3000
PURPOSE = "Train a small GPT-2 of your own: tokenizer and model, from one text file."
EXAMPLES = """
python train_mini_gpt2.py tales.txt --minutes 60
python train_mini_gpt2.py tales.txt --steps 9000 --bfloat16 --compile
python train_mini_gpt2.py tales.txt --score my_gpt2
python multi_layer_decoding_demo.py --model ./my_gpt2
"""


def build_parser() -> Parser:
    """The command line of this script; its defaults are the bundled model's."""
    parser = Parser(PURPOSE, EXAMPLES)
    parser.add_argument("text", type=Path, metavar="TEXT", help="UTF-8 text, <|endoftext|> lines between documents")
    parser.add_argument("--out", type=Path, default=Path("my_gpt2"), metavar="FOLDER", help="what to write (my_gpt2)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps", type=whole_number, metavar="N", help=f"train for N steps: repeatable ({DEFAULT_STEPS})"
    )
    length.add_argument("--minutes", type=float, metavar="M", help="train for M minutes: practical")
    length.add_argument("--score", type=Path, metavar="FOLDER", help="score a trained folder instead")
    shape = parser.add_argument_group("shape")
    for name, default in (("layers", 12), ("width", 192), ("heads", 3), ("context", 256), ("vocabulary", 4096)):
        shape.add_argument(f"--{name}", type=whole_number, default=default, metavar="N", help=f"({default})")
    learning = parser.add_argument_group("learning")
    learning.add_argument("--batch", type=whole_number, default=16, metavar="N", help="windows a step (16)")
    learning.add_argument("--learning-rate", type=float, default=4e-3, metavar="R", help="at its peak (0.004)")
    learning.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and order (0)")
    learning.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (auto)")
    learning.add_argument("--bfloat16", action="store_true", help="faster where the processor has it")
    learning.add_argument("--compile", action="store_true", help="compile the step first: needs a C++ compiler")
    add_shell_options(parser.add_argument_group("output"))
    return parser


def show(args: Namespace) -> None:
    """Train, or score."""
    check(args)
    notice(args, f"Reading {args.text} …")
    from layer_decoding.corpus import read_documents
    from layer_decoding.loading import quiet_libraries

    if not args.debug:
        quiet_libraries()
    training, held_out = read_documents(args.text)
    if args.score:
        score(args, held_out)
    else:
        train_folder(args, training, held_out)


def check(args: Namespace) -> None:
    """Refuse numbers that no model can have."""
    if args.width % args.heads:
        raise UsageError(f"The width of {args.width} is not a multiple of the {args.heads} heads; change --heads.")
    if args.vocabulary < 257:
        raise UsageError(f"The vocabulary of {args.vocabulary} is too small; 256 bytes and end-of-text need 257.")
    if args.minutes is not None and not 0 < args.minutes < float("inf"):
        raise UsageError(f"Training for {args.minutes} minutes is not possible; give a number above 0.")
    if not 0 < args.learning_rate < 1:
        raise UsageError(f"The learning rate of {args.learning_rate} is out of range; give one between 0 and 1.")


def score(args: Namespace, held_out: list[str]) -> None:
    """Print how well a trained folder predicts the whole held-out text."""
    from layer_decoding.corpus import encode_documents
    from layer_decoding.loading import load_model
    from layer_decoding.training import bits_per_byte

    loaded = load_model(f"{args.score}/", args.device, on_notice=lambda sentence: notice(args, sentence))
    ids = encode_documents(loaded.tokenizer, held_out)
    nats, bits = bits_per_byte(loaded.model, ids, byte_count(held_out))
    print(f"{len(held_out)} held-out documents, {len(ids) - 1:,} tokens scored")
    print(f"{nats:.4f} nats a token, {bits:.4f} bits a byte")


def train_folder(args: Namespace, training: list[str], held_out: list[str]) -> None:
    """Train and write the folder: tokenizer, checkpoints, and at the end the weights in float16."""
    from tqdm import tqdm

    from layer_decoding.corpus import Windows, encode_documents
    from layer_decoding.devices import pick_device
    from layer_decoding.training import SCORED_WINDOWS, Recipe, bits_per_byte, build_model, train

    recipe = Recipe(**{name: getattr(args, name) for name in Recipe.__dataclass_fields__})
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LayerDecodingError(f"{args.out} cannot be made: {error.strerror}; choose another --out.") from None
    tokenizer = tokenizer_of(args, training)
    ids, held_out_ids = encode_documents(tokenizer, training), encode_documents(tokenizer, held_out)
    windows = Windows(ids, recipe.context, recipe.batch, recipe.seed)
    device, _ = pick_device(args.device)
    model = build_model(recipe, len(tokenizer), tokenizer.eos_token_id).to(device)
    print(f"{len(ids):,} training tokens, {len(held_out_ids):,} held out; {model.num_parameters():,} parameters")

    with tqdm(total=step_count(args), unit="step", disable=args.quiet or None, dynamic_ncols=True) as bar:

        def on_step(progress: "Progress", loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(progress.step - bar.n)

        def on_checkpoint(progress: "Progress") -> None:
            nats, bits = bits_per_byte(model, held_out_ids, byte_count(held_out), SCORED_WINDOWS)
            bar.write(f"step {progress.step}: held-out {nats:.3f} nats a token, {bits:.4f} bits a byte", sys.stdout)

        train(
            model,
            windows,
            recipe,
            args.out / "checkpoint.safetensors",
            share_done=share_done(args),
            on_step=on_step,
            on_checkpoint=on_checkpoint,
            bfloat16=args.bfloat16,
            compiled=args.compile,
        )
    write_model(model, args.out)
    print(f"Wrote {args.out}; open it with --model {args.out}/")


def tokenizer_of(args: Namespace, training: list[str]) -> Any:
    """The tokenizer a checkpoint in the folder was made with, else one learnt from the text and kept there."""
    from transformers import PreTrainedTokenizerFast

    from layer_decoding.corpus import train_tokenizer

    if (args.out / "checkpoint.safetensors").exists() and (args.out / "tokenizer.json").exists():
        notice(args, f"Going on from {args.out / 'checkpoint.safetensors'}.")
        return PreTrainedTokenizerFast.from_pretrained(args.out, local_files_only=True)
    tokenizer = train_tokenizer(training, args.vocabulary, args.context)
    tokenizer.save_pretrained(args.out)
    return tokenizer


def share_done(args: Namespace) -> "Callable[[Progress], float]":
    """How much of the run is behind, by steps or by the minutes spent training."""
    if args.minutes is not None:
        return lambda progress: progress.seconds / 60 / args.minutes
    return lambda progress: progress.step / (step_count(args) or 1)


def step_count(args: Namespace) -> int | None:
    """The steps to train for; None when the minutes decide."""
    return None if args.minutes is not None else args.steps or DEFAULT_STEPS


def write_model(model: Any, folder: Path) -> None:
    """The trained weights in float16, under the names that GPT-2's own configuration has for what was used."""
    model.config.activation_function = "gelu_new"
    model.half().save_pretrained(folder)


def byte_count(documents: list[str]) -> int:
    """The size of documents in UTF-8 bytes."""
    return sum(len(document.encode()) for document in documents)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    sys.exit(main())
