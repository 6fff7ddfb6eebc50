"""The weights message: one frame, because a conflating socket keeps only the last frame of a multi-part message.

topic | header length (4 bytes) | msgpack header | tensors, one after the other
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from mineonline.errors import DECODE_ERRORS, WireError
from mineonline.fragment import LeafSpec

WIRE_VERSION = 1
TOPIC = b"weights:"
"""Of the newest weights, for everybody. A joiner's own topic has the same length and begins with `JOIN`."""
JOIN = b"j"
_LENGTH = struct.Struct("!I")


class Header(msgspec.Struct, frozen=True):
    """What the tensors are."""

    wire_version: int
    run_id: str
    version: int
    """PPO iterations that made these weights."""
    done: bool
    """The run is complete: leave."""
    leaves: tuple[LeafSpec, ...]


class Weights(NamedTuple):
    """Decoded weights; the tensors view the message's memory."""

    version: int
    done: bool
    tensors: dict[str, Tensor]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def weights_schema(state: Mapping[str, Tensor]) -> tuple[LeafSpec, ...]:
    """Name, dtype and shape of every tensor, in order."""
    return tuple(
        LeafSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in state.items()
    )


def encode(run_id: str, version: int, state: Mapping[str, Tensor], *, done: bool = False) -> bytes:
    """The message without its topic. Copies the tensors, wherever they are."""
    header = _encoder.encode(Header(WIRE_VERSION, run_id, version, done, weights_schema(state)))
    parts = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for t in state.values()]
    return b"".join((_LENGTH.pack(len(header)), header, *parts))


def decode(frame: Any, *, run_id: str, schema: tuple[LeafSpec, ...]) -> Weights:
    """The weights in a message with its topic. WireError if it is of another run, another model, or broken."""
    view = memoryview(frame)[len(TOPIC) :]
    if len(view) < _LENGTH.size:
        raise WireError(f"weights message of {len(view)} bytes")
    (length,) = _LENGTH.unpack(view[: _LENGTH.size])
    body = _LENGTH.size + length
    try:
        header = _decoder.decode(view[_LENGTH.size : body])
    except DECODE_ERRORS as error:
        raise WireError(f"weights header: {error}") from None
    if header.wire_version != WIRE_VERSION or header.run_id != run_id:
        raise WireError("weights of another run")
    if header.leaves != schema:
        raise WireError(f"weights of another model: {_difference(header.leaves, schema)}")
    tensors = {}
    for leaf in schema:
        dtype = getattr(torch, leaf.dtype)
        size = dtype.itemsize * torch.Size(leaf.shape).numel()
        if body + size > len(view):
            raise WireError(f"weights end inside {leaf.name}")
        tensors[leaf.name] = torch.frombuffer(view[body : body + size], dtype=dtype).view(leaf.shape)
        body += size
    if body != len(view):
        raise WireError(f"weights have {len(view) - body} bytes too many")
    return Weights(header.version, header.done, tensors)


def _difference(found: tuple[LeafSpec, ...], expected: tuple[LeafSpec, ...]) -> str:
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            return f"{theirs.name} {theirs.dtype}{theirs.shape}, expected {ours.name} {ours.dtype}{ours.shape}"
    return f"{len(found)} tensors, expected {len(expected)}"
