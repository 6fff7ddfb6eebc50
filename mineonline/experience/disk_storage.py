"""Fragments that wait on disk rather than in memory: `buffer.storage=disk`."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from mineonline.errors import ConfigError
from mineonline.experience.batch_memory import BatchMemory
from mineonline.fragment import Fragments, TensorField, Tensors

_ALIGNMENT = 64
"""Bytes; every tensor starts at a multiple of it."""


class DiskStorage:
    """Room for `capacity` fragments in a file in `folder`, for buffers larger than memory. Implements `Storage`.

    The file has no name (or loses it at once, where the file system requires one), so nothing is left of it however the
    process ends. Its disk space is reserved at once; ConfigError if there is not enough.
    """

    def __init__(self, folder: Path, schema: Sequence[TensorField], capacity: int) -> None:
        total = sum(_aligned(capacity * field.nbytes) for field in schema)
        file = torch.frombuffer(_nameless_file(folder, total, capacity), dtype=torch.uint8)
        self._tensors: Tensors = {}
        start = 0
        for field in schema:
            size = capacity * field.nbytes
            tensor = file[start : start + size].view(getattr(torch, field.dtype))
            self._tensors[field.name] = tensor.view(capacity, *field.shape)
            start += _aligned(size)
        self._memory = BatchMemory()
        self._capacity = capacity
        self._free = list(range(capacity))[::-1]

    def __len__(self) -> int:
        return self._capacity - len(self._free)

    def keep(self, fragment: Fragments) -> int:
        slot = self._free.pop()
        for name, tensor in fragment.named_tensors():
            self._tensors[name][slot] = tensor[0]
        return slot

    def gather(self, slots: Sequence[int]) -> Fragments:
        index = torch.tensor(slots)
        gathered: Tensors = {}
        for name, tensor in self._tensors.items():
            out = self._memory.empty(name, (len(slots), *tensor.shape[1:]), tensor.dtype)
            gathered[name] = torch.index_select(tensor, 0, index, out=out)
        return Fragments.from_named_tensors(gathered)

    def release(self, slot: int) -> None:
        self._free.append(slot)


def _nameless_file(folder: Path, size: int, capacity: int) -> mmap.mmap:
    free = shutil.disk_usage(folder).free
    try:
        if size > free:  # posix_fallocate would fill the disk before it fails
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise ConfigError(
            f"buffer.storage=disk: {capacity} fragments take {size / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} "
            f"GB free ({error.strerror}). Set a smaller buffer.capacity, or run_dir=<folder on a larger disk>."
        ) from None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
