"""Fitting a lens to a model: from text to a linear map for each layer.

    A_k, b_k   least squares from hidden_k to hidden_L, over every position of a text but each window's first
    s_k        the scale of the logits with the least KL divergence from layer L, on documents that A has not seen

in closed form, in one pass over the text; on request A and b are then tuned on by that divergence, with Adam
(D. Kingma and J. Ba, 2015).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch

from layer_decoding.decoding.watching import OnStep
from layer_decoding.errors import UsageError
from layer_decoding.layers import Layer
from layer_decoding.lens.fitted.linear import FittedLens, fingerprint
from layer_decoding.lens.lens import check_on, find_lens
from layer_decoding.lens.windows import lens_logits, positions_at_once, read_windows, window_length
from layer_decoding.models.sizes import text_config, vocabulary_size
from layer_decoding.training.fitting.moments import Moments
from layer_decoding.training.fitting.scales import Scales

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FITTED_TOKENS = 60_000  # more change nothing that can be seen
TOKENS_A_WIDTH = 20  # at least so many for each number of a hidden state
SCALE_TOKENS = 2_000  # of other documents: one number a layer is found from few
_LEARNING_RATE = 1e-3

Documents = Sequence[Sequence[int]]


def fit_lens(
    model: "PreTrainedModel",
    documents: Documents,
    *,
    tokens: int = FITTED_TOKENS,
    penalty: float = 0.0,
    steps: int = 0,
    on_step: OnStep | None = None,
) -> FittedLens:
    """The linear lens of a model for the layers 1 … L - 1, fitted on the beginning of some documents.

    Args:
        documents: the token ids of each, at least two documents. Every tenth (of fewer than ten the last) is kept for
            the scales.
        tokens: read for A and b, at most.
        penalty: of ridge regression, in mean variances of a hidden state; more text is better than any.
        steps: of Adam afterwards, each on as many positions as the lens takes at once; the lens is then a tuned one.
        on_step: called as on_step(tokens so far, {}); what else there is to do counts as so many tokens more.

    Raises:
        UsageError: fewer documents, or tokens, than a lens of this width needs; a penalty below 0.
        LayerDecodingError: the lens does not reproduce the model's own logits.
    """
    fit = Fit(model, documents, tokens, on_step)
    lens = fit.linear(penalty)
    return fit.tuned(lens, steps) if steps else lens


class Fit:
    """The moments of a model's layers over some documents, and the lenses that follow from them."""

    def __init__(
        self, model: "PreTrainedModel", documents: Documents, tokens: int, on_step: OnStep | None = None
    ) -> None:
        self.model, self.on_step = model, on_step
        self.fitted, self.aside = split(model, documents, tokens)
        self.lens = find_lens(model)
        self.layers: list[Layer] = [*range(1, self.lens.layer_count + 1)]
        self.window = window_length(model)
        self.at_once = positions_at_once(self.lens, self.layers)
        self.moments: Moments | None = None
        self.done = 0.0
        check_on(self.lens, self.fitted[0])

    def cost(self, steps: int = 0) -> int:
        """What `on_step` counts up to: tokens read by the blocks, and all else in what it takes beside that."""
        fitted, aside = (sum(map(len, documents)) for documents in (self.fitted, self.aside))
        return round(fitted + aside * self.lens_cost + steps * self._step_cost)

    @property
    def lens_cost(self) -> float:
        """What it takes to read a token by the blocks and by the lens at every layer, beside reading it by the blocks.

        Multiplications are counted: each parameter makes one for each token.
        """
        width, vocabulary = int(text_config(self.model.config).hidden_size), vocabulary_size(self.model)
        in_blocks = sum(weights.numel() for weights in self.lens.blocks.modules.parameters())
        return 1 + len(self.layers) * vocabulary * width / in_blocks

    @property
    def _step_cost(self) -> float:
        """So for a step of Adam, which goes through the lens and back again, for as long as the way there."""
        return self.at_once * (2 * self.lens_cost - 1)

    def linear(self, penalty: float = 0.0) -> FittedLens:
        """Least squares, and the scales that go with it."""
        if penalty < 0:
            raise UsageError(f"The penalty is {penalty}; it must be 0 or more.", settings=["penalty"])
        moments = self._read()
        matrices, biases = moments.solve(penalty)
        lens = self._lens(matrices, biases, tokens=moments.count, penalty=penalty)
        return replace(lens, scales=torch.tensor(self._best_scales(lens)))

    def constant(self) -> FittedLens:
        """What adds a vector and does nothing else: the mean of hidden_L less that of hidden_k."""
        means = self._read().means()
        biases = means[-1] - means[:-1]
        matrices = torch.eye(biases.shape[1]).repeat(len(biases), 1, 1)
        return replace(self._lens(matrices, biases), name="constant")

    def tuned(self, lens: FittedLens, steps: int) -> FittedLens:
        """A lens with A and b tuned on by the KL divergence from layer L, a window a step; its scales stay."""
        placed = lens.on(self.model.get_output_embeddings().weight.device)
        learnt = {name: getattr(placed, name).clone().requires_grad_() for name in ("matrices", "biases")}
        reader = find_lens(self.model, replace(placed, **learnt))
        adam = torch.optim.Adam(learnt.values(), lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=steps)
        for hidden in islice(self._batches(), steps):
            loss = _divergence_bits(lens_logits(reader, hidden, self.layers))
            adam.zero_grad()
            loss.backward(inputs=list(learnt.values()))  # and no gradients of the model's own
            adam.step()
            schedule.step()
            self._told(self._step_cost)
        tuned = {name: values.detach() for name, values in learnt.items()}
        origin = {**lens.origin, "steps": steps}
        return replace(placed, **tuned, name="tuned", origin=origin).on(torch.device("cpu"))

    def _lens(self, matrices: torch.Tensor, biases: torch.Tensor, **origin: Any) -> FittedLens:
        """A lens of the layers 1 … L - 1 that scales nothing."""
        layers = tuple(range(1, self.lens.layer_count))
        belongs = fingerprint(self.lens.blocks)
        return FittedLens(
            layers,
            matrices.float().cpu(),
            biases.float().cpu(),
            torch.ones(len(layers)),
            self.lens.layer_count,
            belongs,
            origin=origin,
        )

    @torch.inference_mode()
    def _read(self) -> Moments:
        """The moments, each window's first position left out: it sees nothing but itself, and looks like no other."""
        if self.moments is None:
            self.moments = Moments()
            for document in self.fitted:
                for _, hidden in read_windows(self.lens, document, self.layers, self.window, at_once=self.window):
                    if len(hidden) > 1:
                        self.moments.add(hidden[1:])
                    self._told(len(hidden) + 1)
        return self.moments

    @torch.inference_mode()
    def _best_scales(self, lens: FittedLens) -> list[float]:
        """For each layer of a lens, the scale of its logits with the least KL divergence from layer L: [N]."""
        reader, scales = find_lens(self.model, lens), Scales(len(lens.layers))
        for document in self.aside:
            for _, hidden in read_windows(reader, document, self.layers, self.window, self.at_once):
                scales.add(lens_logits(reader, hidden, self.layers))
                self._told(len(hidden) * self.lens_cost)
        return scales.best()

    @torch.no_grad()  # while it reads, not while its batches are learnt from
    def _batches(self) -> Iterator[torch.Tensor]:
        """Hidden states [S, R, D] of about as many positions as the lens takes at once, without end.

        Those of a window in an order of dice, its first left out, as in the moments.
        """
        generator = torch.Generator().manual_seed(0)
        for document in cycle(self.fitted):
            for _, hidden in read_windows(self.lens, document, self.layers, self.window, self.window):
                if count := len(hidden) - 1:
                    shuffled = hidden[1:][torch.randperm(count, generator=generator)]
                    yield from shuffled.chunk(-(-count // self.at_once))

    def _told(self, tokens: float) -> None:
        """So many tokens more."""
        self.done += tokens
        if self.on_step is not None:
            self.on_step(round(self.done), {})


def split(model: "PreTrainedModel", documents: Documents, tokens: int) -> tuple[Documents, Documents]:
    """Documents to fit A and b on, and others to find the scales on: parted whole, then each cut where it has enough.

    Raises:
        UsageError: fewer than two documents, or than TOKENS_A_WIDTH tokens for each number of a hidden state.
    """
    least = TOKENS_A_WIDTH * int(text_config(model.config).hidden_size)
    if tokens < least:
        raise _too_few(least, tokens)
    if len(documents) < 2:
        raise UsageError(
            f"There are {len(documents)} documents to fit a lens on; give at least 2, one of them for its scales."
        )
    kept = range(9, len(documents), 10) if len(documents) >= 10 else range(len(documents) - 1, len(documents))
    fitted = list(_beginning([each for number, each in enumerate(documents) if number not in kept], tokens))
    aside = list(_beginning([documents[number] for number in kept], SCALE_TOKENS))
    if (count := sum(map(len, fitted))) < least:
        raise _too_few(least, count)
    return fitted, aside


def _too_few(least: int, count: int) -> UsageError:
    """Fewer tokens than a lens of this width is fitted on."""
    return UsageError(
        f"A lens of this model is fitted on at least {least:,} tokens, {TOKENS_A_WIDTH} for each number of a hidden"
        f" state, and there are {count:,}; give a longer text, or ask for more of it.",
        settings=["tokens"],
    )


def _beginning(documents: Documents, tokens: int) -> Iterator[Sequence[int]]:
    """Documents up to a number of tokens, the last of them cut; of two tokens no position is read: see `Fit._read`."""
    for document in documents:
        if len(document) > 2 and tokens > 2:
            yield document[:tokens]
            tokens -= len(document[:tokens])


def _divergence_bits(logits: torch.Tensor) -> torch.Tensor:
    """The mean KL divergence from the last of the rows [S, N + 1, V], summed over the others."""
    final = logits[:, -1:].detach().log_softmax(-1)
    gaps = final.exp() * (final - logits[:, :-1].log_softmax(-1))
    return gaps.sum((1, 2)).mean() / math.log(2)
