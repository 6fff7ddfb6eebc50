"""The experience message: one fragment, as a msgpack header frame and one raw frame a tensor.

Nothing is copied on decoding, nothing is unpickled, and no byte is used before its size and meaning were checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from mineonline.errors import DECODE_ERRORS, NotFiniteError, WireError
from mineonline.fragment import Episode, Fragments, LeafSpec


class Timing(msgspec.Struct, frozen=True):
    """Where a worker's time went while it collected a batch of fragments, in seconds."""

    env_s: float
    policy_s: float
    send_s: float
    """Sending the batch before this one, and waiting for room."""
    total_s: float


class Header(msgspec.Struct, frozen=True):
    """First frame of an experience message."""

    run_id: str
    collector_id: int
    leaves: tuple[LeafSpec, ...]
    """Must equal the receiver's schema."""
    episodes: tuple[Episode, ...]
    """That ended in this fragment."""
    env_failures: int
    """Times that environments of this collector failed, since the fragment before."""
    timing: Timing


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode(header: Header, leaves: Mapping[str, Tensor]) -> list[Any]:
    """Frames of one fragment. `leaves` are contiguous CPU tensors that nobody writes to until they are sent."""
    return [_encoder.encode(header), *(_bytes(leaves[leaf.name]) for leaf in header.leaves)]


def decode(
    frames: Sequence[Any],
    *,
    run_id: str,
    schema: Sequence[LeafSpec],
    actions: Mapping[str, int],
    statistics: Sequence[str],
) -> tuple[Header, Fragments]:
    """The header and one fragment (B = 1) that views the frames' memory. WireError says why a message is refused.

    `actions`: number of classes of each action, for example `{"buttons": 8641}`. `statistics`: what finished episodes
    must report.
    """
    try:
        header = _decoder.decode(_view(frames[0]))
    except (*DECODE_ERRORS, IndexError) as error:
        raise WireError(f"header: {error}") from None
    if header.run_id != run_id:
        raise WireError("of another run")
    if header.leaves != tuple(schema):
        raise WireError("tensors do not fit this run's schema")
    if any(set(episode.statistics) != set(statistics) for episode in header.episodes):
        raise WireError(f"episodes do not report {', '.join(statistics) or 'nothing'}")
    if len(frames) != len(schema) + 1:
        raise WireError(f"{len(frames)} frames, expected {len(schema) + 1}")
    leaves = {leaf.name: _tensor(_view(frame), leaf) for leaf, frame in zip(schema, frames[1:], strict=True)}
    fragment = Fragments.from_leaves(leaves)
    _check_values(fragment, actions)
    return header, fragment


def _check_values(fragment: Fragments, actions: Mapping[str, int]) -> None:
    for name, classes in actions.items():
        action = fragment.action[name]
        if int(action.min()) < 0 or int(action.max()) >= classes:
            raise WireError(f"action.{name} lies outside 0..{classes - 1}")
    for name, tensor in fragment.leaves():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"{name} is not finite")
        # torch reads any byte as a bool; one that is neither 0 nor 1 breaks its logic silently
        if tensor.dtype == torch.bool and int(tensor.view(torch.uint8).max()) > 1:
            raise WireError(f"{name} is not boolean")


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _view(frame: Any) -> Any:
    """The bytes of a zmq.Frame without a copy, or of anything that is bytes already."""
    return getattr(frame, "buffer", frame)


def _tensor(buffer: Any, leaf: LeafSpec) -> Tensor:
    dtype = getattr(torch, leaf.dtype)
    shape = (1, *leaf.shape)
    expected = dtype.itemsize * torch.Size(shape).numel()
    if len(buffer) != expected:
        raise WireError(f"{leaf.name} has {len(buffer)} bytes, expected {expected}")
    return torch.frombuffer(buffer, dtype=dtype).view(shape)
