"""Texts without sense, and what is measured along one."""

import torch


def random_ids(count, vocabulary=97, seed=0):
    """A text without sense."""
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def numbers_of(summary):
    """A summary in one list: layer, shares, means."""
    return [summary.layer, summary.agreeing_share, summary.correct_share, *summary.means.values()]
