"""The attention of a GPT-2 block, taken out: the weights of each head, and what it reads and answers."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Head(NamedTuple):
    """One head's weights: three matrices [D, E], and a row [E] to add after each."""

    w_q: "Tensor"
    w_k: "Tensor"
    w_v: "Tensor"
    b_q: "Tensor"
    b_k: "Tensor"
    b_v: "Tensor"


def heads_of(attention: Any, count: int) -> list[Head]:
    """A GPT-2 block keeps all its heads' weights in one matrix [D, 3 D]: queries, keys, values, each head by head."""
    weights, biases = attention.c_attn.weight.chunk(3, dim=-1), attention.c_attn.bias.chunk(3)
    parts = [w.chunk(count, dim=-1) for w in weights] + [b.chunk(count) for b in biases]
    return [Head(*head) for head in zip(*parts, strict=True)]


def watch_attention(model: Any, ids: "Tensor", layer: int) -> tuple["Tensor", "Tensor"]:
    """What the attention of block `layer` reads and answers when the model runs on ids [P]: [P, D] both."""
    seen: list[Tensor] = []

    def keep(_: object, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]) -> None:
        seen.extend([args[0] if args else kwargs["hidden_states"], output[0]])

    handle = model.transformer.h[layer - 1].attn.register_forward_hook(keep, with_kwargs=True)
    try:
        model(ids[None])
    finally:
        handle.remove()
    return seen[0][0], seen[1][0]
