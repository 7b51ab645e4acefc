"""Why the last layer prefers one token to another: what every part of the model adds to the difference of their logits.

    logit_t - logit_a = embeddings + Σ (attention_k + mlp_k) + biases        the final norm's scale held as it is

One pass over the text; see `lens.inside.added` for the parts and `lens.inside.ending` for what they meet at the end.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.lens.blocks import block_outputs
from layer_decoding.lens.cache import refusing
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.inside.added import Added, added_in_blocks
from layer_decoding.lens.inside.ending import Preference, preference, watched_ending
from layer_decoding.lens.inside.heads import Heads, watched_heads
from layer_decoding.lens.lens import NOT_BY_LAYER, find_lens
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import check_ids
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.why import Contribution, Why

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_MISSING = 1e-3  # logits


def explain(
    model: "PreTrainedModel",
    decoding: LayerDecoding,
    step: int = 1,
    against: int | None = None,
    heads: int | None = None,
) -> Why:
    """What every part adds to the logit of the text's token at a step, from 1, less that of another token.

    Args:
        against: the other token; None for the likeliest besides.
        heads: a layer whose attention is split once more, into its heads.

    Raises:
        UsageError: no such step, token or layer; a token against itself.
        LayerDecodingError: the model cannot be taken apart so, or its parts do not add up to the difference.
    """
    lens = find_lens(model)
    blocks = lens.blocks
    _check(model, decoding, step, against, heads, blocks.count)
    parts = lens.parts
    token, written = decoding.text_ids[step - 1], decoding.text_ids[: step - 1]
    ids = torch.tensor([[*decoding.prompt_ids, *written]], device=device_of(model))
    with torch.inference_mode(), ExitStack() as stack:
        outputs = stack.enter_context(block_outputs(blocks))
        added = stack.enter_context(added_in_blocks(blocks, parts))
        ending = stack.enter_context(watched_ending(blocks))
        split = None if heads is None else stack.enter_context(watched_heads(blocks, heads, parts[heads - 1]))
        with refusing(model, NOT_BY_LAYER):
            answer: Any = model(input_ids=ids, use_cache=False, logits_to_keep=1)
    with torch.inference_mode(), refusing(model, NOT_BY_LAYER):
        logits = answer.logits[0, -1]
        check_finite(logits)
        other = _runner_up(logits, token) if against is None else against
        found = preference(ending, outputs[blocks.count][0], logits, token, other)
        contributions = tuple(_contributions(added, found, split))
    why = Why(
        step,
        blocks.count,
        decoding.prompt_ids,
        written,
        token,
        other,
        found.difference,
        contributions,
        found.soft_cap,
    )
    _check_sum(model, why)
    return why


def _check(
    model: "PreTrainedModel", decoding: LayerDecoding, step: int, against: int | None, heads: int | None, count: int
) -> None:
    """Refuse what there is not, and numbers whose rounding is larger than many a part."""
    if torch.finfo(model.dtype).bits < 32:
        raise LayerDecodingError(
            f"In {str(model.dtype).removeprefix('torch.')} the parts of a model do not add up; load it in float32.",
            settings=["dtype"],
        )
    if not 1 <= step <= len(decoding.text_ids):
        raise UsageError(
            f"There is no step {step}: the text ended after {len(decoding.text_ids)} tokens; choose one up to that.",
            settings=["step"],
        )
    if heads is not None and not 1 <= heads <= count:
        raise UsageError(
            f"There is no layer {heads} with heads; this model has layers 1 to {count}.", settings=["heads"]
        )
    if against == decoding.text_ids[step - 1]:
        raise UsageError(f"Token {against} is the one at step {step} itself; name another.", settings=["against"])
    check_ids(model, [] if against is None else [against])


def _runner_up(logits: torch.Tensor, token: int) -> int:
    """The likeliest token but one, lowest id on ties."""
    others = logits.clone()
    others[token] = -torch.inf
    return int(others.argmax())


def _contributions(added: dict[int, Added], found: Preference, split: Heads | None) -> Sequence[Contribution]:
    """From the embeddings up; what a layer does not have, or does not add to, is no part."""

    def logit(state: torch.Tensor) -> float:
        return float(state.flatten().double().cpu() @ found.gradient)

    contributions = [Contribution("embeddings", None, logit(added[1].before))]
    for layer, block in sorted(added.items()):
        kinds = {part.is_attention for part, _ in block.parts}
        if split is not None and layer == split.layer:
            answers, bias = split.answers()
            contributions += [Contribution("attention", layer, logit(bias))] * bool(bias.any())
            contributions += [
                Contribution("attention", layer, logit(answer), head) for head, answer in enumerate(answers, 1)
            ]
        elif True in kinds:
            contributions.append(Contribution("attention", layer, logit(block.of(attention=True))))
        if False in kinds:
            contributions.append(Contribution("mlp", layer, logit(block.of(attention=False))))
    if found.norm_bias is not None:
        contributions.append(Contribution("norm bias", None, found.norm_bias))
    if found.head_bias is not None:
        contributions.append(Contribution("head bias", None, found.head_bias))
    return contributions


def _check_sum(model: "PreTrainedModel", why: Why) -> None:
    """Refuse parts that do not add up to what the model says."""
    if abs(why.missing) <= _MOST_MISSING:
        return
    raise LayerDecodingError(
        f"The parts of {type(model).__name__} miss its difference of logits, {why.difference:.3f}, by"
        f" {abs(why.missing):.2g}, which is more than rounding; use another view.",
        settings=["view"],
    )
