"""A text shared out among processes, on one machine or several: each reads its windows, and their sums become one.

By torch's own engine (torch.distributed). The sums are few: they are added up in float64 by gloo, on the CPU, whatever
device the model is on.
"""

import time
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from layer_decoding.errors import LayerDecodingError

_PATIENCE = timedelta(days=30)  # for the others to finish; one that dies closes its connections, which is noticed
_SECONDS_BETWEEN_LOOKS = 0.02


class Processes:
    """Those that read a text together; this one is number `rank` of `count`, and they meet at a store of torch's.

    Raises:
        LayerDecodingError: they do not find each other.
    """

    def __init__(self, store: Any, rank: int, count: int) -> None:
        self.rank, self.count = rank, count
        try:
            distributed.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=_PATIENCE)
        except RuntimeError as error:
            raise LayerDecodingError(
                f"The {count} processes that are to read the text do not find each other; start them again."
            ) from error

    def summed(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of their numbers [..., N], float64; one that has none gives [..., 0].

        Raises:
            LayerDecodingError: another process is gone.
        """
        width = self._reduced(torch.tensor([numbers.shape[-1]]), distributed.ReduceOp.MAX)
        if not numbers.shape[-1]:
            numbers = numbers.new_zeros(*numbers.shape[:-1], int(width))
        return self._reduced(numbers.cpu().double().contiguous(), distributed.ReduceOp.SUM)

    def _reduced(self, numbers: torch.Tensor, by: Any) -> torch.Tensor:
        try:
            work = distributed.all_reduce(numbers, by, async_op=True)
            while not work.is_completed():  # and not work.wait(), in which no signal is heard
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            work.wait()
        except RuntimeError as error:
            raise LayerDecodingError(
                f"Another of the {self.count} processes that read the text has died, and its share is missing; start"
                " them again."
            ) from error
        return numbers
