"""Where fragments wait in the buffer: in this process's memory, or in a file that the system keeps out of it.

One thread keeps and releases at a time (the buffer's lock); gathering goes on beside it, for places that stay kept.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from mineonline.errors import ConfigError
from mineonline.fragment import Fragments, LeafSpec, TensorDict, concatenate

_ALIGNMENT = 64
"""Bytes; every tensor begins at a multiple."""


class Storage(Protocol):
    """Places for fragments."""

    def __len__(self) -> int:
        """Fragments that are kept."""

    def keep(self, fragment: Fragments) -> int:
        """Take in one fragment (B = 1); returns its place."""

    def gather(self, places: Sequence[int]) -> Fragments:
        """A copy of what is kept at `places`, in that order, as one batch."""

    def release(self, place: int) -> None:
        """Forget what is kept at `place`."""


class MemoryStorage:
    """Keeps fragments as they are: what the network received is not copied before it is gathered."""

    def __init__(self) -> None:
        self._kept: dict[int, Fragments] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, fragment: Fragments) -> int:
        self._next += 1
        self._kept[self._next] = fragment
        return self._next

    def gather(self, places: Sequence[int]) -> Fragments:
        return concatenate([self._kept[place] for place in places])

    def release(self, place: int) -> None:
        del self._kept[place]


class DiskStorage:
    """Room for `capacity` fragments in a file in `folder`, for buffers larger than memory.

    The file has no name from the beginning (or loses it at once, where the file system knows no other way), so that
    nothing is left of it however the process ends. ConfigError if the disk has not enough room, which is taken here.
    """

    def __init__(self, folder: Path, schema: Sequence[LeafSpec], capacity: int) -> None:
        leaves = {leaf.name: (getattr(torch, leaf.dtype), (capacity, *leaf.shape)) for leaf in schema}
        sizes = {name: dtype.itemsize * torch.Size(shape).numel() for name, (dtype, shape) in leaves.items()}
        total = sum(map(_aligned, sizes.values()))
        file = torch.frombuffer(_nameless_file(folder, total, capacity), dtype=torch.uint8)
        self._leaves: TensorDict = {}
        begin = 0
        for name, (dtype, shape) in leaves.items():
            self._leaves[name] = file[begin : begin + sizes[name]].view(dtype).view(shape)
            begin += _aligned(sizes[name])
        self._capacity = capacity
        self._free = list(range(capacity))[::-1]

    def __len__(self) -> int:
        return self._capacity - len(self._free)

    def keep(self, fragment: Fragments) -> int:
        place = self._free.pop()
        for name, tensor in fragment.leaves():
            self._leaves[name][place] = tensor[0]
        return place

    def gather(self, places: Sequence[int]) -> Fragments:
        index = torch.tensor(places)
        return Fragments.from_leaves({name: leaf[index] for name, leaf in self._leaves.items()})

    def release(self, place: int) -> None:
        self._free.append(place)


def _nameless_file(folder: Path, size: int, capacity: int) -> mmap.mmap:
    free = shutil.disk_usage(folder).free
    try:
        if size > free:  # the call below would take all that is left before it fails
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise ConfigError(
            f"buffer.storage=disk: {capacity} fragments take {size / 1e9:,.1f} GB, but {folder} has {free / 1e9:,.1f} "
            f"GB ({error.strerror}). Give a smaller buffer.capacity, or run_dir=<folder on a larger disk>."
        ) from None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
