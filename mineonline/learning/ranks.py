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


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """The rows (N, K) of all ranks, rank 0's first; each rank may have another N. On the ranks' device."""
    if not torch.distributed.is_initialized():
        return rows
    ranks = torch.distributed.get_world_size()
    counts = torch.zeros(ranks, dtype=torch.int64, device=rows.device)
    counts[torch.distributed.get_rank()] = len(rows)
    torch.distributed.all_reduce(counts)
    padded = rows.new_zeros(int(counts.max()), rows.shape[1])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(ranks)]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)])


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
