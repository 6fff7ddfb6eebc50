"""Sums and means over all ranks; with one rank, over this one. All ranks call these together."""

from __future__ import annotations

import torch
from torch import Tensor


def sum_over_ranks(x: Tensor) -> Tensor:
    """A copy of `x` that is summed over the ranks; `x` is on the ranks' device (NCCL knows no other)."""
    total = x.detach().clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def mean_over_ranks(x: Tensor) -> Tensor:
    """The same, divided by the number of ranks; `x` must be floating."""
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return sum_over_ranks(x) / ranks
