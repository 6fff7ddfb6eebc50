"""PATH 2, in rank 0: keeps the newest weights and sends them to whoever subscribes.

    learner --publish()--> [newest] --publisher thread--> XPUB --> every collector's subscriber

One thread owns the XPUB socket. It sends on three occasions: there are new weights; somebody subscribed to a topic of
its own (it alone gets everything at once, because it has just joined or has missed something); nothing was sent for
`refresh_s` (a sign of life, which shows who has missed something). Overwritten weights are never sent.

A message is one frame, because a conflating socket keeps only the last frame of a multi-part message:

    topic | header length (4 bytes) | msgpack header | tensors, one after the other

What hardly ever changes (a frozen reference policy, as large as the policy) is sent only when it has changed: a message
holds all tensors, or all but these, or none as a sign of life.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import torch
import zmq
from torch import Tensor

from mineonline.fragment import TensorField
from mineonline.processes.sockets import Network
from mineonline.processes.threads import ServiceThread

REFRESH_S = 5.0
TOPIC = b"weights:"
"""Of the newest weights, for everybody. All topics are of this length."""
ALIVE = b"a:alive:"
"""Of signs of life, for everybody."""
JOIN = b"j"
"""First byte of a subscriber's own topic, on which it is sent everything at once."""
LENGTH = struct.Struct("!I")


class Header(msgspec.Struct, frozen=True):
    """What the tensors of a message are."""

    run_id: str
    version: int
    """PPO iterations that made these weights."""
    done: bool
    """The run is complete: leave."""
    constant_version: int
    """Counts the changes of what hardly ever changes."""
    schema: tuple[TensorField, ...]


_encoder = msgspec.msgpack.Encoder()


def weights_schema(state: Mapping[str, Tensor]) -> tuple[TensorField, ...]:
    """Name, dtype and shape of every tensor, in order."""
    return tuple(
        TensorField(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in state.items()
    )


def pack(state: Mapping[str, Tensor]) -> bytes:
    """The tensors one after the other, copied from wherever they are."""
    parts = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for t in state.values()]
    return b"".join(parts)


def encode(topic: bytes, header: Header, bodies: Sequence[bytes]) -> bytes:
    """The message, in one copy of `bodies`: what `pack` made of the tensors in `header.schema`."""
    encoded = _encoder.encode(header)
    return b"".join((topic, LENGTH.pack(len(encoded)), encoded, *bodies))


class _Part(NamedTuple):
    schema: tuple[TensorField, ...]
    body: bytes


class _Newest(NamedTuple):
    """What is there to send."""

    run_id: str
    version: int
    done: bool
    constant_version: int
    moving: _Part
    constant: _Part
    is_new: bool
    """`constant` differs from what was published before."""

    def message(self, topic: bytes, *parts: _Part) -> bytes:
        schema = tuple(field for part in parts for field in part.schema)
        header = Header(self.run_id, self.version, self.done, self.constant_version, schema)
        return encode(topic, header, [part.body for part in parts])


class WeightsPublisher:
    """Serves the newest weights from a thread of its own until `close`."""

    def __init__(self, network: Network, run_id: str, *, refresh_s: float = REFRESH_S) -> None:
        # XPUB sees subscriptions, VERBOSE shows each one; 2 messages wait for a slow subscriber, then newer ones are
        # dropped, and the next sign of life tells it to ask
        self._socket = network.bind(zmq.XPUB, "weights", options={zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: 2})
        self.address = network.address_of(self._socket)
        self._run_id = run_id
        self._refresh_s = refresh_s
        self._newest: _Newest | None = None
        self.published = 0
        self.joined = 0
        self._lock = threading.Lock()
        self._wake_out: zmq.Socket[bytes] = network.context.socket(zmq.PAIR)
        self._wake_in: zmq.Socket[bytes] = network.context.socket(zmq.PAIR)
        self._wake_out.bind("inproc://weights-wake")
        self._wake_in.connect("inproc://weights-wake")
        self._thread = ServiceThread(self._serve, "weights-publisher")
        self._thread.start()

    def publish(
        self,
        version: int,
        state: Mapping[str, Tensor],
        *,
        constant: Mapping[str, Tensor] | None = None,
        constant_version: int = 0,
        done: bool = False,
    ) -> None:
        """Make `state` the newest weights and wake the thread; copies, and returns before anything is sent.

        `constant` is looked at only when `constant_version` is another than before. Raises what ended the thread, if it
        failed.
        """
        self._thread.check()
        known = self._newest
        is_new = known is None or known.constant_version != constant_version
        kept = _part(constant or {}) if known is None or is_new else known.constant
        newest = _Newest(self._run_id, version, done, constant_version, _part(state), kept, is_new)
        with self._lock:
            self._newest = newest
        self._wake_out.send(b"new")

    def close(self) -> None:
        """Send what is still unsent, then stop the thread (at most 2 s)."""
        self._wake_out.send(b"stop")
        self._thread.join(2.0)
        self._wake_out.close(linger=0)

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_in, zmq.POLLIN)
        last_sent = time.monotonic()
        running = True
        while running:
            ready = dict(poller.poll(int(self._refresh_s * 1000)))
            with self._lock:
                newest = self._newest
            if self._socket in ready:
                self._serve_joiner(newest)
            command = self._wake_in.recv() if self._wake_in in ready else b""
            if newest is not None and command == b"new":
                parts = (newest.moving, newest.constant) if newest.is_new else (newest.moving,)
                self._socket.send(newest.message(TOPIC, *parts), copy=False)
                self.published += 1
                last_sent = time.monotonic()
            elif newest is not None and time.monotonic() - last_sent >= self._refresh_s:
                self._socket.send(newest.message(ALIVE))
                last_sent = time.monotonic()
            running = command != b"stop"
        # a moment for the last message (done) to leave; linger would wait for dead subscribers too
        self._socket.close(linger=500)
        self._wake_in.close(linger=0)

    def _serve_joiner(self, newest: _Newest | None) -> None:
        event = self._socket.recv()
        subscribed, topic = event[:1] == b"\x01", event[1:]
        if subscribed and topic.startswith(JOIN) and len(topic) == len(TOPIC) and newest is not None:
            self._socket.send(newest.message(topic, newest.moving, newest.constant), copy=False)
            self.joined += 1


def _part(state: Mapping[str, Tensor]) -> _Part:
    return _Part(weights_schema(state), pack(state))
