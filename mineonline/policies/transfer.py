"""Copies between the CPU and a GPU that do not wait for each other. On the CPU, nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def to_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on `device`; a GPU copies them from pinned memory while the CPU goes on."""
    if device.type == "cpu":
        return dict(tensors)
    return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()}


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, after one wait for all of them."""
    if all(tensor.device.type == "cpu" for tensor in tensors.values()):
        return dict(tensors)
    copies = {
        name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
        for name, tensor in tensors.items()
    }
    torch.cuda.current_stream().synchronize()
    return copies
