"""Why the last layer prefers one token to another: what every part of the model adds to the difference of their logits.

    logit_t - logit_a = embeddings + Σ (attention_k + mlp_k) + biases        the final norm's scale held as it is

One pass over the text, whether for one step or for many; see `lens.inside.added` for the parts and
`lens.inside.ending` for what they meet at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.errors import LayerDecodingError, UsageError
from layer_decoding.layers import PLAIN_LENS
from layer_decoding.lens.blocks import block_outputs
from layer_decoding.lens.cache import refusing
from layer_decoding.lens.finite import check_finite
from layer_decoding.lens.inside.added import Added, added_in_blocks
from layer_decoding.lens.inside.ending import Preference, preference, watched_ending
from layer_decoding.lens.inside.heads import Heads, watched_heads
from layer_decoding.lens.lens import NOT_BY_LAYER, Lens, find_lens
from layer_decoding.models.devices import device_of
from layer_decoding.models.sizes import check_ids
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.why import Contribution, PartName, Why

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_MISSING = 1e-3  # logits
_AT_ONCE = 64  # steps of a text in one pass: their logits are each as wide as the vocabulary


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
    _check(model, decoding, step, against, heads)
    others = {} if against is None else {step: against}
    return _explained(find_lens(model), decoding, range(step, step + 1), others, heads)[0]


def explain_text(
    model: "PreTrainedModel",
    decoding: LayerDecoding,
    step: int = 1,
    against: int | None = None,
    heads: int | None = None,
) -> tuple[Why, ...]:
    """`explain` at every step of a text, T of them, in one pass for each 64; `against` is the other token at `step`.

    Empty where there is nothing to explain by it: in own context, whose layers read texts of their own; where a fitted
    lens reads the layers, which shows another thing than what they add; where `explain` would refuse the model.

    Raises:
        UsageError: as `explain`.
    """
    if decoding.context == "own" or decoding.lens != PLAIN_LENS or not decoding.text_ids:
        return ()
    others = {} if against is None else {step: against}
    count = len(decoding.text_ids)
    try:
        _check(model, decoding, step, against, heads)
        lens = find_lens(model)
        starts = range(1, count + 1, _AT_ONCE)
        passes = [range(first, min(first + _AT_ONCE, count + 1)) for first in starts]
        return tuple(why for steps in passes for why in _explained(lens, decoding, steps, others, heads))
    except UsageError:
        raise
    except LayerDecodingError:
        return ()


def _check(
    model: "PreTrainedModel", decoding: LayerDecoding, step: int, against: int | None, heads: int | None
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
    if heads is not None and not 1 <= heads <= decoding.layer_count:
        raise UsageError(
            f"There is no layer {heads} with heads; this model has layers 1 to {decoding.layer_count}.",
            settings=["heads"],
        )
    if against == decoding.text_ids[step - 1]:
        raise UsageError(f"Token {against} is the one at step {step} itself; name another.", settings=["against"])
    check_ids(model, [] if against is None else [against])


def _explained(
    lens: Lens, decoding: LayerDecoding, steps: range, against: Mapping[int, int], heads: int | None
) -> list[Why]:
    """Why at neighbouring steps, in one pass over the text up to the last of them; `against` are tokens {step: id}."""
    model, blocks, parts, positions = lens.model, lens.blocks, lens.parts, slice(-len(steps), None)
    ids = [*decoding.prompt_ids, *decoding.text_ids[: steps[-1] - 1]]
    with torch.inference_mode(), ExitStack() as stack:
        outputs = stack.enter_context(block_outputs(blocks, positions))
        added = stack.enter_context(added_in_blocks(blocks, parts, positions))
        ending = stack.enter_context(watched_ending(blocks, positions))
        split = (
            None if heads is None else stack.enter_context(watched_heads(blocks, heads, parts[heads - 1], positions))
        )
        with refusing(model, NOT_BY_LAYER):
            read = torch.tensor([ids], device=device_of(model))
            answer: Any = model(input_ids=read, use_cache=False, logits_to_keep=len(steps))
    whys = []
    with torch.inference_mode(), refusing(model, NOT_BY_LAYER):
        check_finite(answer.logits)
        summands = list(_summands(added, split))
        for place, step in enumerate(steps):
            token, logits = decoding.text_ids[step - 1], answer.logits[0, place - len(steps)]
            other = against.get(step, _runner_up(logits, token))
            found = preference(ending, place, outputs[blocks.count][0, place], logits, token, other)
            why = Why(
                step,
                blocks.count,
                decoding.prompt_ids,
                decoding.text_ids[: step - 1],
                token,
                other,
                found.difference,
                tuple(_contributions(summands, place, found)),
                found.soft_cap,
            )
            _check_sum(model, why)
            whys.append(why)
    return whys


def _runner_up(logits: torch.Tensor, token: int) -> int:
    """The likeliest token but one, lowest id on ties."""
    others = logits.clone()
    others[token] = -torch.inf
    return int(others.argmax())


@dataclass(frozen=True)
class _Summand:
    """What one part added to the state at each of the steps, [T, D] float64."""

    part: PartName
    layer: int | None
    states: torch.Tensor
    head: int | None = None


def _summands(added: dict[int, Added], split: Heads | None) -> Iterator[_Summand]:
    """From the embeddings up; what a layer does not have, or does not add to, is no part."""

    def exact(states: torch.Tensor) -> torch.Tensor:
        return states.cpu().double()

    yield _Summand("embeddings", None, exact(added[1].before[0]))
    for layer, block in sorted(added.items()):
        kinds = {part.is_attention for part, _ in block.parts}
        if split is not None and layer == split.layer:
            answers, bias = split.answers()
            if bias.any():
                yield _Summand("attention", layer, exact(bias.expand_as(answers[0])))
            for head, states in enumerate(answers, 1):
                yield _Summand("attention", layer, exact(states), head)
        elif True in kinds:
            yield _Summand("attention", layer, exact(block.of(attention=True)[0]))
        if False in kinds:
            yield _Summand("mlp", layer, exact(block.of(attention=False)[0]))


def _contributions(summands: Sequence[_Summand], place: int, found: Preference) -> Iterator[Contribution]:
    """What each summand adds at one of the steps, then what the biases after the blocks add."""
    for summand in summands:
        yield Contribution(summand.part, summand.layer, float(summand.states[place] @ found.gradient), summand.head)
    if found.norm_bias is not None:
        yield Contribution("norm bias", None, found.norm_bias)
    if found.head_bias is not None:
        yield Contribution("head bias", None, found.head_bias)


def _check_sum(model: "PreTrainedModel", why: Why) -> None:
    """Refuse parts that do not add up to what the model says."""
    if abs(why.missing) <= _MOST_MISSING:
        return
    raise LayerDecodingError(
        f"The parts of {type(model).__name__} miss its difference of logits, {why.difference:.3f}, by"
        f" {abs(why.missing):.2g}, which is more than rounding; use another view.",
        settings=["view"],
    )
