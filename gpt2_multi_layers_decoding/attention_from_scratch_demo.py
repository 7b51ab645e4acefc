"""Self-attention from nothing, in four steps that each add one thing; the last is a GPT-2 block's own.

    1  without weights      a token attends to what resembles it
    2  trainable weights    what it looks for is learnt: query, key and value
    3  causal               it sees no later token
    4  multi-head           several at once, side by side

All four read the same rows: what the block's attention reads for the prompt. Each draws its weights as a heat
map, a row for each token that looks, a column for each that is looked at. The last step is compared with the
block. The order of presentation is Sebastian Raschka's (Build a Large Language Model (From Scratch), 2024).

    P prompt tokens   D hidden width   H heads   E = D / H

    python attention_from_scratch_demo.py
    python attention_from_scratch_demo.py "The old king" --layer 9 --head 3
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
from argparse import Namespace
from collections.abc import Sequence
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from layer_decoding.cli.options import Parser, whole_number
from layer_decoding.cli.running import prompt_of, run
from layer_decoding.errors import UsageError
from layer_decoding.teaching.attention_heads import Head, heads_of, watch_attention
from layer_decoding.teaching.lesson import IN_FLOAT64, Steps, lesson_parser, load_gpt2, proof, token_labels
from layer_decoding.teaching.page import Page
from layer_decoding.terminal.pieces import Pieces
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-5
PURPOSE = "Self-attention in four steps, from nothing to what a GPT-2 block does."
EXAMPLES = """
python attention_from_scratch_demo.py
python attention_from_scratch_demo.py "The old king" --layer 9 --head 3
"""


def without_weights(x: "Tensor", step: Steps) -> tuple["Tensor", "Tensor"]:
    """Step 1: mix the rows x [P, D] by how much they resemble each other."""
    scores = x @ x.T / sqrt(step.sizes["D"])
    step("scores = x @ x.T / sqrt(D)", scores, "P P")
    weights = scores.softmax(-1)
    step("weights = softmax(scores), row by row", weights, "P P")
    mixed = weights @ x
    step("mixed = weights @ x", mixed, "P D")
    return weights, mixed


def with_weights(x: "Tensor", head: Head, step: Steps, *, causal: bool = False) -> tuple["Tensor", "Tensor"]:
    """Step 2: compare queries with keys and mix values, each of them learnt. Step 3: the same, `causal`."""
    q, k, v = x @ head.w_q + head.b_q, x @ head.w_k + head.b_k, x @ head.w_v + head.b_v
    step("q, k, v = x @ w + b, a w and a b for each", q, "P E")
    scores = q @ k.T / sqrt(step.sizes["E"])
    step("scores = q @ k.T / sqrt(E)", scores, "P P")
    if causal:
        scores = scores.masked_fill(scores.new_ones(scores.shape).triu(1).bool(), -inf)
        step("scores of later tokens = -inf", scores, "P P")
    weights = scores.softmax(-1)
    step("weights = softmax(scores), row by row", weights, "P P")
    mixed = weights @ v
    step("mixed = weights @ v", mixed, "P E")
    return weights, mixed


def multi_head(
    x: "Tensor", heads: Sequence[Head], w_o: "Tensor", b_o: "Tensor", step: Steps
) -> tuple[list["Tensor"], "Tensor"]:
    """Step 4: every head by itself as in step 3, their rows side by side, and one matrix to bring them together."""
    import torch

    weights, mixed = zip(*(with_weights(x, head, Steps(**step.sizes), causal=True) for head in heads), strict=True)
    step("weights = step 3's for each head", torch.stack(weights), "H P P")
    joined = torch.cat(mixed, dim=-1)
    step("joined = the mixed rows of all heads, side by side", joined, "P D")
    output = joined @ w_o + b_o
    step("output = joined @ w_o + b_o", output, "P D")
    return list(weights), output


def show(args: Namespace) -> None:
    """Load, take the four steps, print, compare."""
    loaded, prompt_ids = load_gpt2(args, prompt_of(args))
    import torch

    model: Any = loaded.model
    config = model.config
    layer = chosen(args.layer or (config.n_layer + 1) // 2, config.n_layer, "layer")
    number = chosen(args.head, config.n_head, "head")
    step = Steps(P=len(prompt_ids), D=config.n_embd, H=config.n_head, E=config.n_embd // config.n_head)
    page = Page(terminal_of(sys.stdout, args.color, args.width))
    labels = token_labels(Pieces(loaded.tokenizer), prompt_ids, page.terminal)
    page.heading(f"The attention of block {layer} of {config.n_layer}")
    with torch.inference_mode():
        x, theirs = watch_attention(model, torch.tensor(prompt_ids, device=model.device), layer)
        ours = lesson(page, x, model.transformer.h[layer - 1].attn, step, labels, number)
    page.heading(IN_FLOAT64)
    page.lines.append(proof(f"the attention of block {layer}", (ours - theirs).abs().max().item(), TOLERANCE))
    print("\n".join(page.lines))


def chosen(number: int, count: int, kind: str) -> int:
    """A layer or a head that the model has."""
    if number > count:
        raise UsageError(f"There is no {kind} {number}: this model has {kind}s 1 to {count}.")
    return number


def lesson(page: Page, x: "Tensor", attention: Any, step: Steps, labels: Sequence[str], number: int) -> "Tensor":
    """The four steps with their maps on the page; the last one's answer [P, D]."""
    heads = heads_of(attention, step.sizes["H"])
    P, D, H, E = (step.sizes[symbol] for symbol in "PDHE")
    page.say(f"x is what it reads: a row for each of P = {P} tokens, D = {D} wide; H = {H} heads, each E = {E} wide.")
    page.say("A map has a row for each token that looks and a column for each it looks at, in the same order.")
    page.legend()

    page.heading("1 Without weights")
    page.say("A token takes from every row, most from those that resemble its own. Nothing is learnt yet.")
    weights, _ = without_weights(x, step)
    page.steps(step.take())
    page.heat_map(weights.tolist(), labels)

    page.heading("2 With trainable weights")
    page.say(f"What a token asks for (q), answers to (k) and hands over (v) is learnt; these are head {number}'s.")
    weights, _ = with_weights(x, heads[number - 1], step)
    page.steps(step.take())
    page.heat_map(weights.tolist(), labels)

    page.heading("3 Causal")
    page.say("The model writes from left to right, so no token may look at a later one: exp(-inf) is 0.")
    weights, _ = with_weights(x, heads[number - 1], step, causal=True)
    page.steps(step.take())
    page.heat_map(weights.tolist(), labels, causal=True)

    page.heading("4 Multi-head")
    page.say(f"{H} heads look in {H} ways at once; w_o brings what they found together. This is the block's attention.")
    every, output = multi_head(x, heads, attention.c_proj.weight, attention.c_proj.bias, step)
    page.steps(step.take())
    page.heat_maps([(f"head {n}", weights.tolist()) for n, weights in enumerate(every, 1)], labels)
    return output


def build_parser() -> Parser:
    """The command line of this script."""
    parser = lesson_parser(PURPOSE, EXAMPLES)
    group = parser.add_argument_group("attention")
    group.add_argument("--layer", type=whole_number, metavar="K", help="the block to rebuild (the middle one)")
    group.add_argument("--head", type=whole_number, default=1, metavar="N", help="the head of steps 2 and 3 (1)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(build_parser(), show, argv)


if __name__ == "__main__":
    leave(main())
