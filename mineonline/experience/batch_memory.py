"""Where a batch lies in memory."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class BatchMemory:
    """Memory for the large tensors of a batch: that of the last batch, if nothing refers to it any more.

    New memory costs a page fault for every 4 KiB, and all faults of a batch take longer than copying it.
    """

    _SMALL = 1 << 20
    """Bytes. malloc itself reuses the memory of smaller tensors."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Tensor, weakref.ref[NDArray[Any]]]] = {}
        """Name -> memory, and something that lives as long as the tensor that it was given to, and views of it."""

    def empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor. Nothing else uses its memory as long as it, or a view of it, exists."""
        size = math.prod(shape) * dtype.itemsize
        if size < self._SMALL:
            return torch.empty(shape, dtype=dtype)
        last = self._last.get(name)
        reusable = last is not None and last[0].nbytes == size and last[1]() is None
        memory = last[0] if last and reusable else torch.empty(size, dtype=torch.uint8)
        array = memory.numpy()  # the returned tensor's storage refers to it, and nothing else does
        self._last[name] = memory, weakref.ref(array)
        return torch.from_numpy(array).view(dtype).view(shape)
