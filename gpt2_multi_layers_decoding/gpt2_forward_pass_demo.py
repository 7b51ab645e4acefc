"""From a text to GPT-2's next token, by hand: tensors, the model's weights, and no call into its modules.

Reads top to bottom as the mathematics, and prints every step with its shape:

    P prompt tokens   L layers   D hidden width   H heads   E = D / H   F inner width   V vocabulary

The last line is the proof: the largest difference from what the model itself computes.

    python gpt2_forward_pass_demo.py
    python gpt2_forward_pass_demo.py "The king said to his" --model mini
"""

if __name__ == "__main__":
    from layer_decoding.cli.process import begin, leave

    begin()  # before the other imports, so that Ctrl-C ends it during them too

import sys
from argparse import Namespace
from collections.abc import Sequence
from math import inf, pi, sqrt
from typing import TYPE_CHECKING

from layer_decoding.cli.running import prompt_of, run
from layer_decoding.teaching.lesson import IN_FLOAT64, Steps, lesson_parser, load_gpt2, proof, token_labels
from layer_decoding.teaching.page import Page
from layer_decoding.terminal.pieces import Pieces, shown
from layer_decoding.terminal.theme import terminal_of

if TYPE_CHECKING:
    from torch import Tensor

Weights = dict[str, "Tensor"]
TOLERANCE = 1e-4
PURPOSE = "From a text to GPT-2's next token by hand, and the proof that it is the same."
EXAMPLES = """
python gpt2_forward_pass_demo.py
python gpt2_forward_pass_demo.py "The king said to his" --model mini
"""


def layer_norm(x: "Tensor", gain: "Tensor", shift: "Tensor", epsilon: float) -> "Tensor":
    """Every position's D numbers brought to mean 0 and variance 1, then stretched and shifted as learnt: [P, D]."""
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + epsilon).sqrt() * gain + shift


def softmax(scores: "Tensor") -> "Tensor":
    """Scores as shares of 1 along the last dimension; the largest is taken off first, lest exp overflow."""
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
    return exponentials / exponentials.sum(-1, keepdim=True)


def gelu(x: "Tensor") -> "Tensor":
    """The bend between the MLP's two matrices, as GPT-2 approximates it (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + (sqrt(2 / pi) * (x + 0.044715 * x**3)).tanh())


def attention(a: "Tensor", w: Weights, step: Steps) -> "Tensor":
    """What each position takes from itself and those before it: [P, D] to [P, D]."""
    P, D, H, E = (step.sizes[symbol] for symbol in "PDHE")
    qkv = a @ w["attn.c_attn.weight"] + w["attn.c_attn.bias"]
    step("qkv = a @ w_qkv + b_qkv", qkv, "P 3D")
    q, k, v = (third.reshape(P, H, E).transpose(0, 1) for third in qkv.split(D, dim=-1))
    step("q, k, v = thirds of qkv, cut into heads", q, "H P E")
    scores = q @ k.transpose(1, 2) / sqrt(E)
    step("scores = q @ k.T / sqrt(E)", scores, "H P P")
    later = scores.new_ones(P, P).triu(1).bool()
    weights = softmax(scores.masked_fill(later, -inf))
    step("weights = softmax(scores, later ones at -inf)", weights, "H P P")
    taken = weights @ v
    step("taken = weights @ v", taken, "H P E")
    joined = taken.transpose(0, 1).reshape(P, D)
    step("joined = the heads side by side again", joined, "P D")
    answer: Tensor = joined @ w["attn.c_proj.weight"] + w["attn.c_proj.bias"]
    return answer


def mlp(m: "Tensor", w: Weights, step: Steps) -> "Tensor":
    """What each position makes of what it has, by itself: [P, D] to [P, D]."""
    h = gelu(m @ w["mlp.c_fc.weight"] + w["mlp.c_fc.bias"])
    step("h = gelu(m @ w_in + b_in)", h, "P F")
    return h @ w["mlp.c_proj.weight"] + w["mlp.c_proj.bias"]


def block(x: "Tensor", w: Weights, epsilon: float, step: Steps) -> "Tensor":
    """Attention, then MLP; each reads a normalised copy and adds its answer to the stream: [P, D] to [P, D]."""
    a = layer_norm(x, w["ln_1.weight"], w["ln_1.bias"], epsilon)
    step("a = layer_norm(x)", a, "P D")
    x = x + attention(a, w, step)
    step("x = x + joined @ w_o + b_o", x, "P D")
    m = layer_norm(x, w["ln_2.weight"], w["ln_2.bias"], epsilon)
    step("m = layer_norm(x)", m, "P D")
    x = x + mlp(m, w, step)
    step("x = x + h @ w_out + b_out", x, "P D")
    return x


def forward(ids: "Tensor", w: Weights, epsilon: float, step: Steps) -> "Tensor":
    """Token ids [P] to next-token logits [P, V]."""
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    step("x = wte[ids] + wpe[:P]", x, "P D")
    for k in range(step.sizes["L"]):
        x = block(x, part(w, f"h.{k}."), epsilon, step)
    x = layer_norm(x, w["ln_f.weight"], w["ln_f.bias"], epsilon)
    step("x = layer_norm(x)", x, "P D")
    logits = x @ w["wte.weight"].T
    step("logits = x @ wte.T", logits, "P V")
    return logits


def part(weights: Weights, prefix: str) -> Weights:
    """The weights whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def show(args: Namespace) -> None:
    """Load, compute by hand, print, compare."""
    prompt = prompt_of(args)
    loaded, prompt_ids = load_gpt2(args, prompt)
    import torch

    model, ids = loaded.model, torch.tensor(prompt_ids, device=loaded.model.device)
    config, w = model.config, part(dict(model.named_parameters()), "transformer.")
    P, L, D, H, V = len(ids), config.n_layer, config.n_embd, config.n_head, config.vocab_size
    F = len(w["h.0.mlp.c_fc.bias"])
    step = Steps(P=P, L=L, D=D, H=H, E=D // H, F=F, V=V, **{"3D": 3 * D})
    with torch.inference_mode():
        logits = forward(ids, w, config.layer_norm_epsilon, step)
        p = softmax(logits[-1])
        step("p = softmax(logits of the last position)", p, "V")
        theirs = model(ids[None]).logits[0]
    page, pieces = Page(terminal_of(sys.stdout, args.color, args.width)), Pieces(loaded.tokenizer)
    describe(page, step, prompt_ids, pieces)
    likeliest = p.sort(descending=True, stable=True).indices[:5].tolist()
    choice(page, prompt, likeliest, p[likeliest].tolist(), pieces)
    page.heading(IN_FLOAT64)
    page.lines.append(proof("model(...).logits", (logits - theirs).abs().max().item(), TOLERANCE))
    print("\n".join(page.lines))


def describe(page: Page, step: Steps, ids: Sequence[int], pieces: Pieces) -> None:
    """The sizes, the tokens, and every step with its shape; of the blocks, which are alike, the first."""
    L = step.sizes["L"]
    page.heading("Sizes")
    names = {"P": "prompt tokens", "L": "layers (blocks)", "D": "hidden width", "H": "heads", "E": "head width, D / H"}
    names |= {"F": "inner width of the MLP", "V": "vocabulary"}
    page.table([("symbol", "size", "of"), *((symbol, str(step.sizes[symbol]), name) for symbol, name in names.items())])
    page.heading("Tokens")
    page.table([("id", *map(str, ids)), ("token", *token_labels(pieces, ids, page.terminal))])
    per_block = (len(step.rows) - 4) // L  # the four are those before and after the blocks
    page.heading("Embedding: which token, and at which position")
    page.steps(step.rows[:1])
    page.say("x is the residual stream: one row a token, which every block reads and adds to.")
    page.heading("Block 1: attention fetches from earlier positions, the MLP works on each alone")
    page.steps(step.rows[1 : 1 + per_block])
    if L > 1:
        page.say(f"Blocks 2 to {L} are the same {per_block} steps, each with weights of its own.")
    page.heading("Unembedding: the stream read as a score for every token that could come next")
    page.steps(step.rows[-3:])


def choice(page: Page, prompt: str, ids: Sequence[int], probabilities: Sequence[float], pieces: Pieces) -> None:
    """The likeliest tokens, and the text with the first of them."""
    labels = token_labels(pieces, ids, page.terminal)
    page.heading("The choice: greedy takes the likeliest")
    rows = [(label, str(i), f"{p:.3f}") for label, i, p in zip(labels, ids, probabilities, strict=True)]
    page.table([("token", "id", "p"), *rows], numbers=True)
    page.say(shown(prompt + pieces.of(ids[:1])[0], page.terminal))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return its exit code."""
    return run(lesson_parser(PURPOSE, EXAMPLES), show, argv)


if __name__ == "__main__":
    leave(main())
