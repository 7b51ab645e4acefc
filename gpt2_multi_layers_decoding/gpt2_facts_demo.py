"""What GPT-2 is made of: the family in numbers, and the tokenizer that cuts its text.

The numbers follow from the four configurations alone, without any weights, and are compared with transformers'
own models, built without weights too. The tokenizer is the one of --model: gpt2's if it is in the cache, else the
bundled model's. How it builds a word, and how it learnt to, is in layer_decoding/byte_pairs.py.

    V vocabulary   C context   L layers   D hidden width

    python gpt2_facts_demo.py
    python gpt2_facts_demo.py --bpe " unbelievable"     the merges that build a word, step by step
    python gpt2_facts_demo.py --train-bpe               a byte-pair tokenizer learning from three words
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from layer_decoding.cli.input import read_prompt
from layer_decoding.cli.options import Parser, add_screen_options
from layer_decoding.cli.running import load, run
from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.teaching.byte_pair_lesson import show_building, show_learning
from layer_decoding.teaching.lesson import add_lesson_model, token_labels
from layer_decoding.teaching.page import Page
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from transformers import GPT2Config

    from layer_decoding.models.loading import LoadedModel

FAMILY = {"gpt2": (12, 768, 12), "gpt2-medium": (24, 1024, 16), "gpt2-large": (36, 1280, 20), "gpt2-xl": (48, 1600, 25)}
CASES = ("king", "King", "KING", " king")
LONG_WORDS = (" telecommunications", " responsibilities", " handkerchief", " comfortable", " everything")
SHORT_WORDS = (" gnu", " yak", " elf", " zyx")
COUNTS = {"older": 3, "finest": 9, "lowest": 4}
UNSEEN = ("oldest", "lower")
PURPOSE = "What GPT-2 is made of: the family in numbers, and its tokenizer."
EXAMPLES = """
python gpt2_facts_demo.py
python gpt2_facts_demo.py --model mini --bpe " unbelievable"
python gpt2_facts_demo.py --train-bpe
"""


def parameters(config: "GPT2Config") -> dict[str, int]:
    """How many parameters each part has; the unembedding is the token embeddings once more, and adds none."""
    V, C, L, D = config.vocab_size, config.n_positions, config.n_layer, config.n_embd
    return {
        "token embeddings": V * D,
        "position embeddings": C * D,
        "attention": L * ((D * 3 * D + 3 * D) + (D * D + D)),
        "MLP": L * ((D * 4 * D + 4 * D) + (4 * D * D + D)),
        "layer norms": (2 * L + 1) * 2 * D,
    }


def show_family(page: Page) -> None:
    """The four models side by side, each total compared with a model built of shapes without weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    configs = [GPT2Config(n_layer=L, n_embd=D, n_head=H) for L, D, H in FAMILY.values()]
    parts = [parameters(config) for config in configs]
    totals = [sum(counts.values()) for counts in parts]
    with torch.device("meta"):
        built = [GPT2LMHeadModel(config).num_parameters() for config in configs]
    if totals != built:
        raise LayerDecodingError(f"By formula the family has {totals} parameters, but built {built}; they must agree.")
    page.heading("The GPT-2 family")
    page.table(
        [
            ("", *FAMILY),
            ("layers, L", *(f"{c.n_layer}" for c in configs)),
            ("width, D", *(f"{c.n_embd:,}" for c in configs)),
            ("heads", *(f"{c.n_head}" for c in configs)),
            ("width of a head", *(f"{c.n_embd // c.n_head}" for c in configs)),
            *((part, *(f"{counts[part]:,}" for counts in parts)) for part in parts[0]),
            ("all parameters", *(f"{total:,}" for total in totals)),
            ("MB in float32", *(f"{total * 4 / 1e6:,.0f}" for total in totals)),
            ("MB in float16", *(f"{total * 2 / 1e6:,.0f}" for total in totals)),
        ],
        numbers=True,
    )
    V, C = configs[0].vocab_size, configs[0].n_positions
    page.say(
        f"All have V = {V:,} tokens and a context of C = {C:,}. The totals add up the shapes, and are exactly "
        "those of transformers' own models, built here without weights."
    )


def show_tokens(page: Page, loaded: "LoadedModel") -> None:
    """Ids with visible spaces: case, a leading space, a long word in one token, a short one in several."""
    tokenizer: Any = loaded.tokenizer
    pieces, glyphs = Pieces(tokenizer), page.terminal.glyphs
    ids_of = {word: tokenizer.encode(word, add_special_tokens=False) for word in (*LONG_WORDS, *SHORT_WORDS, *CASES)}
    long = next((word for word in LONG_WORDS if len(ids_of[word]) == 1), LONG_WORDS[-1])
    short = next((word for word in SHORT_WORDS if len(ids_of[word]) > 1), SHORT_WORDS[-1])
    table = [("text", "ids", "tokens")]
    for word in (*CASES, long, short):
        tokens = " ".join(token_labels(pieces, ids_of[word], page.terminal))
        table.append((word.replace(" ", glyphs.space), " ".join(map(str, ids_of[word])), tokens))
    page.heading(f"The tokenizer of {loaded.name}: {len(tokenizer):,} tokens")
    page.listing(table)
    page.say(
        f"Case matters, and so does a leading space ({glyphs.space}). What was frequent is one token, however long."
    )


def show(args: Namespace) -> None:
    """The family and the tokenizer, or one of the two lessons on byte-pair encoding."""
    page = Page(terminal_of(sys.stdout, args.color, args.width))
    if args.bpe == "":
        raise UsageError("The word for --bpe is empty; give one, such as --bpe unbelievable.")
    if args.train_bpe:
        show_learning(page, COUNTS, UNSEEN)
    else:
        from layer_decoding.models.hub import find_cached

        text = None if args.bpe is None else read_prompt(args.bpe)
        if args.model is None and find_cached("gpt2") is None:
            args.model = "mini"  # a tokenizer is not worth a download of weights
        loaded = load(args)
        if text is not None:
            show_building(page, text, loaded)
        else:
            show_family(page)
            show_tokens(page, loaded)
    print("\n".join(page.lines))


def build_parser() -> Parser:
    """The command line of this script."""
    parser = Parser(PURPOSE, EXAMPLES)
    add_lesson_model(parser)
    lessons = parser.add_argument_group("byte-pair encoding").add_mutually_exclusive_group()
    lessons.add_argument("--bpe", metavar="WORD", help="the merges that build a word, - for stdin")
    lessons.add_argument("--train-bpe", action="store_true", help="learn merges from three words")
    add_screen_options(parser.add_argument_group("output"))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
