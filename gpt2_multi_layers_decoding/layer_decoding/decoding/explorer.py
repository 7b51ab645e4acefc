"""A text that grows, is taken back and branches, with what every layer says at each place of it.

All texts tried so far are paths in one tree of tokens. A node keeps the outputs of the blocks after its token, [R, D],
and what any lens has read in them; each text that is still wanted keeps a cache, copied where it parts from another.
So going back, changing to another branch or taking a token again computes nothing, and a new token is one cached step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING

import torch

from layer_decoding.decoding.contexts import prefill
from layer_decoding.decoding.greedy import decode_layers
from layer_decoding.decoding.steps import Steps
from layer_decoding.decoding.why import explain_text
from layer_decoding.errors import UsageError
from layer_decoding.layers import PLAIN_LENS, Layer
from layer_decoding.lens.blocks import stacked
from layer_decoding.lens.cache import check_copyable, copied_up_to, new_cache, read_on
from layer_decoding.lens.fitted.linear import FittedLens
from layer_decoding.lens.inside.added import layer_outputs
from layer_decoding.lens.lens import Lens, find_lens
from layer_decoding.lens.measures import measure, top_tokens
from layer_decoding.lens.quick import with_quick_twins
from layer_decoding.models.devices import device_of
from layer_decoding.models.generation import end_ids
from layer_decoding.models.sizes import check_ids, check_lengths, check_switches, context_length, select_layers
from layer_decoding.results.greedy import LayerDecoding
from layer_decoding.results.measures import fields
from layer_decoding.results.why import Why

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.cache_utils import DynamicCache

_ONLY_PLAIN: Mapping[str, FittedLens | None] = {PLAIN_LENS: None}
CANDIDATES = 10
_AT_ONCE = 4  # places of a text measured together: the head is read once for their rows


@dataclass(eq=False)
class _Node:
    """A place in the tree: what the blocks handed on there, hidden [R, D], and what was read in it.

    `said` is kept by lens and by the token that comes next, which only the surprise depends on; None is the last
    layer's own.
    """

    hidden: torch.Tensor
    children: "dict[int, _Node]" = field(default_factory=dict)
    said: dict[tuple[str, int | None], LayerDecoding] = field(default_factory=dict)


class Explorer:
    """A model and a prompt, and every text tried after it. `written` are the ids of a text after the prompt.

    Raises:
        UsageError: a prompt that is empty or longer than the context, ids or layers out of range.
        LayerDecodingError: the model's cache cannot be copied, or the lens does not reproduce the model's logits.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        prompt_ids: Sequence[int],
        *,
        layers: Sequence[Layer] | None = None,
        candidates: int = CANDIDATES,
        lenses: Mapping[str, FittedLens | None] = _ONLY_PLAIN,
    ) -> None:
        check_copyable(model)
        self.model, self.prompt = model, list(prompt_ids)
        self.lenses: dict[str, Lens] = {name: find_lens(model, fitted) for name, fitted in lenses.items()}
        self.lens = find_lens(with_quick_twins(model))  # whose blocks are listened to
        self.shown = select_layers(layers, self.lens.layer_count)
        self.decoded = sorted({*self.shown, *range(1, self.lens.layer_count + 1)})
        self.candidates = candidates
        self.ends = frozenset(end_ids(model))
        self.context = context_length(model)
        self._check_prompt()
        with torch.inference_mode(), layer_outputs(self.lens, self.decoded) as outputs:
            cache, hidden = prefill(self.lens, self.prompt, outputs)
            self.root = _Node(stacked(hidden, self.decoded))
        self.caches: dict[tuple[int, ...], DynamicCache] = {(): cache}  # by what is written of the text that each holds

    def steps(self, written: Sequence[int], lens: str = PLAIN_LENS) -> tuple[LayerDecoding, ...]:
        """What every layer says in the place of each written token, and after the last: n + 1 decodings of one token.

        The last one's text is the token that the last layer would write. Tokens not known yet are read.

        Raises:
            UsageError: more tokens than the context holds, or ids out of range.
        """
        self._check_written(written)
        nodes = [self.root]
        with torch.inference_mode():
            for place, token in enumerate(written):
                if token not in nodes[-1].children:
                    nodes[-1].children[token] = self._read(tuple(written[:place]), token)
                nodes.append(nodes[-1].children[token])
            places = list(zip(nodes, [*written, None], strict=True))
            missing = [(node, token) for node, token in places if _known(node, token, lens) is None]
            for first in range(0, len(missing), _AT_ONCE):
                self._measure(missing[first : first + _AT_ONCE], lens)
        steps = [_known(node, token, lens) for node, token in places]
        return tuple(step for step in steps if step is not None)

    def own_text(
        self, written: Sequence[int], layer: Layer, count: int, on_step: Callable[[int], None] = lambda _: None
    ) -> tuple[int, ...]:
        """The greedy text, at most `count` tokens, of the model cut off after a block, from here on.

        `on_step` is called with the number of each token; what it raises ends the writing.

        Raises:
            UsageError: the context is full, or the layer is inside a block.
            LayerDecodingError: the model cannot be cut off there.
        """
        self.check_room(written)
        ids = [*self.prompt, *written]
        room = count if self.context is None else min(count, self.context - len(ids))
        decoding = decode_layers(
            self.model,
            ids,
            room,
            context="own",
            layers=[layer],
            measures=False,
            on_step=lambda step, _: on_step(step),
        )
        return decoding.rows[0].ids

    def whys(self, decoding: LayerDecoding) -> tuple[Why, ...]:
        """Why at each step of a text, see `explain_text`."""
        return explain_text(self.model, decoding)

    def keep(self, texts: Iterable[Sequence[int]]) -> None:
        """Forget the caches from which none of these texts would be read on."""
        nearest = {self._nearest(tuple(text)) for text in texts}
        self.caches = {holds: cache for holds, cache in self.caches.items() if holds in nearest}

    def check_room(self, written: Sequence[int]) -> None:
        """Refuse one token more where the context holds none.

        Raises:
            UsageError: with the numbers.
        """
        if self.context is not None and len(self.prompt) + len(written) >= self.context:
            raise UsageError(
                f"The model's context of {self.context} tokens is full, {len(self.prompt)} of them the prompt's; take"
                " some back, or begin another prompt."
            )

    # ------------------------------------------------------------ what is read, and read in it

    def _measure(self, places: list[tuple[_Node, int | None]], name: str) -> None:
        """What every layer says at some nodes, in the place of the tokens there, all rows in one product."""
        lens, rows = self.lenses[name], len(self.decoded)
        hidden = torch.cat([node.hidden for node, _ in places])
        logits = lens.logits(hidden, self.decoded * len(places)).split(rows)  # [R, V] each
        for (node, token), said in zip(places, logits, strict=True):
            step = self._step(said, token, lens.name)
            is_own = step.text_ids == step.final_row.ids
            node.said[name, None if is_own else token] = step

    def _step(self, logits: torch.Tensor, token: int | None, lens: str) -> LayerDecoding:
        """One step's logits [R, V], measured as `decode_layers` and `read_layers` do."""
        rows = logits[[self.decoded.index(layer) for layer in self.shown]]
        numbers = measure(rows, fields(shared=True), candidates=self.candidates, text_id=token)
        step = Steps("shared", self.shown, self.decoded, ends=frozenset())
        step.add(top_tokens(logits).tolist(), numbers)
        text = () if token is None else (token,)
        shown, settles = step.rows(), step.settles_at()
        return LayerDecoding("shared", self.lens.layer_count, (), 1, shown, settles, (), text, lens=lens)

    def _read(self, before: tuple[int, ...], token: int) -> _Node:
        """Read one token after a text, from the cache nearest to it."""
        cache = self._cache_of(before)
        with layer_outputs(self.lens, self.decoded) as outputs:
            read_on(self.lens.blocks.base, self._row([token]), cache)
            hidden = stacked(outputs, self.decoded)
        self.caches[*before, token] = cache
        return _Node(hidden)

    def _cache_of(self, text: tuple[int, ...]) -> "DynamicCache":
        """A cache that holds the prompt and a text, not among those kept: what it is given, the caller puts back.

        One that holds just this is handed over, one that holds more is copied up to here. Where none can be, as much
        as has to be is read again.
        """
        if text in self.caches:
            return self.caches.pop(text)
        nearest = self._nearest(text)
        shared = 0 if nearest is None else _shared(nearest, text)
        copied = None if nearest is None else copied_up_to(self.caches[nearest], len(self.prompt) + shared)
        if copied is None:
            copied, shared = new_cache(self.model), 0
            assert copied is not None  # there are blocks, or the lens would not have found them
            read_on(self.lens.blocks.base, self._row(self.prompt), copied)
        if text[shared:]:
            read_on(self.lens.blocks.base, self._row(text[shared:]), copied)
        return copied

    def _nearest(self, text: tuple[int, ...]) -> tuple[int, ...] | None:
        """Which cache shares most with a text, and holds the least besides; None where a read that failed took all."""
        return max(self.caches, key=lambda holds: (_shared(holds, text), -len(holds)), default=None)

    def _row(self, ids: Sequence[int]) -> torch.Tensor:
        return torch.tensor([list(ids)], device=device_of(self.model))

    # ------------------------------------------------------------ what is refused

    def _check_prompt(self) -> None:
        """A prompt that fills the context can be looked at, though nothing can be written after it."""
        if self.context is None or len(self.prompt) != self.context:
            check_lengths(self.model, self.prompt, 1)
        check_ids(self.model, self.prompt)

    def _check_written(self, written: Sequence[int]) -> None:
        if written:
            self.check_room(written[:-1])
            check_switches(self.model, len(self.prompt), len(written) + 1)  # the last one written is read too
            check_ids(self.model, written)


def _known(node: _Node, token: int | None, lens: str) -> LayerDecoding | None:
    """What is known of a node in the place of a token; None is the last layer's own."""
    own = node.said.get((lens, None))
    if own is not None and token in (None, own.final_row.ids[0]):
        return own
    return node.said.get((lens, token))


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
