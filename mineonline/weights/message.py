"""The weights message: one frame, because a conflating socket keeps only the last frame of a multi-part message.

topic | header length (4 bytes) | msgpack header | tensors, one after the other

What hardly ever changes (a frozen reference policy, as large as the policy) travels only when it has: a message holds
all tensors, or all but these, or none as a sign of life.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from mineonline.errors import DECODE_ERRORS, WireError
from mineonline.fragment import LeafSpec

TOPIC = b"weights:"
"""Of the newest weights, for everybody. All topics are of this length."""
ALIVE = b"a:alive:"
"""Of signs of life, for everybody."""
JOIN = b"j"
"""What the own topic of a subscriber begins with, on which it is sent everything at once."""
_LENGTH = struct.Struct("!I")


class Header(msgspec.Struct, frozen=True):
    """What the tensors are."""

    run_id: str
    version: int
    """PPO iterations that made these weights."""
    done: bool
    """The run is complete: leave."""
    constant_version: int
    """Counts the changes of what hardly ever changes."""
    leaves: tuple[LeafSpec, ...]


class Weights(NamedTuple):
    """Decoded weights; the tensors view the message's memory."""

    version: int
    done: bool
    constant_version: int
    tensors: dict[str, Tensor]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def weights_schema(state: Mapping[str, Tensor]) -> tuple[LeafSpec, ...]:
    """Name, dtype and shape of every tensor, in order."""
    return tuple(
        LeafSpec(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)) for name, tensor in state.items()
    )


def pack(state: Mapping[str, Tensor]) -> bytes:
    """The tensors one after the other, copied from wherever they are."""
    parts = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for t in state.values()]
    return b"".join(parts)


def encode(topic: bytes, header: Header, bodies: Sequence[bytes]) -> bytes:
    """The message, in one copy of `bodies`: what `pack` made of the header's leaves."""
    encoded = _encoder.encode(header)
    return b"".join((topic, _LENGTH.pack(len(encoded)), encoded, *bodies))


def decode(
    frame: Any, *, run_id: str, schema: tuple[LeafSpec, ...], constant: tuple[LeafSpec, ...] = ()
) -> Weights:
    """The weights in a message with its topic: of `schema` and `constant`, of `schema`, or of neither.

    WireError if it is of another run, another model, or broken.
    """
    view = memoryview(frame)[len(TOPIC) :]
    if len(view) < _LENGTH.size:
        raise WireError(f"weights message of {len(view)} bytes")
    (length,) = _LENGTH.unpack(view[: _LENGTH.size])
    body = _LENGTH.size + length
    try:
        header = _decoder.decode(view[_LENGTH.size : body])
    except DECODE_ERRORS as error:
        raise WireError(f"weights header: {error}") from None
    if header.run_id != run_id:
        raise WireError("weights of another run")
    if header.leaves not in ((), schema, schema + constant):
        raise WireError(f"weights of another model: {_difference(header.leaves, schema + constant)}")
    tensors = {}
    for leaf in header.leaves:
        dtype = getattr(torch, leaf.dtype)
        size = dtype.itemsize * torch.Size(leaf.shape).numel()
        if body + size > len(view):
            raise WireError(f"weights end inside {leaf.name}")
        tensors[leaf.name] = torch.frombuffer(view[body : body + size], dtype=dtype).view(leaf.shape)
        body += size
    if body != len(view):
        raise WireError(f"weights have {len(view) - body} bytes too many")
    return Weights(header.version, header.done, header.constant_version, tensors)


def _difference(found: tuple[LeafSpec, ...], expected: tuple[LeafSpec, ...]) -> str:
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            return f"{theirs.name} {theirs.dtype}{theirs.shape}, expected {ours.name} {ours.dtype}{ours.shape}"
    return f"{len(found)} tensors, expected {len(expected)}"
