"""Tensors in the format of `safetensors`, which holds no code, with a checksum that the format itself lacks.

A file is the length of its header (8 bytes), the header (JSON), and the bytes of the tensors. Its metadata has the
CRC-32 of these bytes as `crc32`, in hexadecimal.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # importing torch takes a second
    from torch import Tensor

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 24


class Found(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, str]


def write(file: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write the tensors, and `facts` about them."""
    from safetensors.torch import save

    ours = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(ours)
    (length,) = _LENGTH.unpack_from(content)
    crc32 = zlib.crc32(memoryview(content)[_LENGTH.size + length :])
    # not with `save_file`, which makes a file that only its owner can read
    file.write_bytes(save(ours, {"format": "pt", **facts, "crc32": f"{crc32:08x}"}))


def read(file: Path) -> Found | None:
    """What is in a file that `write` has written, mapped from it; None if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 it is no dict
            return Found(tensors, dict(opened.metadata() or {}))
    except (SafetensorError, OSError):
        return None


def is_intact(file: Path) -> bool:
    """Whether the tensors are as they were written."""
    with file.open("rb") as source:
        try:
            (length,) = _LENGTH.unpack(source.read(_LENGTH.size))
            expected: object = json.loads(source.read(length))["__metadata__"]["crc32"]
        except (struct.error, ValueError, KeyError, TypeError, OverflowError, MemoryError):
            return False
        crc32 = 0
        while chunk := source.read(_CHUNK):
            crc32 = zlib.crc32(chunk, crc32)
    return expected == f"{crc32:08x}"
