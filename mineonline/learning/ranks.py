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


def from_rank_zero(message: bytes, device: torch.device) -> bytes:
    """Rank 0's `message`, in every rank; the others' do not count. As bytes: torch's broadcast of objects unpickles."""
    if not torch.distributed.is_initialized():
        return message
    size = torch.tensor(len(message), device=device)
    torch.distributed.broadcast(size, 0)
    content = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if torch.distributed.get_rank() == 0:
        content.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
    torch.distributed.broadcast(content, 0)
    return content.cpu().numpy().tobytes()
