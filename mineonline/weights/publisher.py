"""PATH 2, in rank 0: keeps the newest weights and sends them to every subscriber.

    learner --publish()--> [newest] --publisher thread--> XPUB --> every collector's subscriber

One thread owns the XPUB socket. It sends in three cases: there are new weights; a subscriber has subscribed to its own
topic, because it has just joined or has missed something (it alone gets all tensors at once); nothing was sent for
`refresh_s` (a heartbeat, which shows a subscriber that it has missed something). Overwritten weights are never sent.
It also knows which collectors are there: each subscribes to a topic of its own (`presence`) for as long as it lives.

A message is one frame:

    topic | header length (4 bytes) | msgpack header | tensors, one after the other

Constant tensors (a frozen reference policy, as large as the policy) change rarely, and are sent only when they do: a
message holds all tensors, all but the constant ones, or none (a heartbeat).

Many nodes: a relay (`run/relay.py`) subscribes once, and is the publisher of its node's collectors.
"""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
"""Topic of the newest weights, for all subscribers. All topics have this length."""
ALIVE = b"a:alive:"
"""Topic of heartbeats, for all subscribers."""
JOIN = b"j"
"""First byte of a subscriber's own topic, on which it gets all tensors at once."""
PRESENT = b"p"
"""First byte of the topic that a collector subscribes to while it belongs to the run. Nothing is sent there."""
_PRESENCE_BYTES = len(TOPIC) - len(PRESENT)
LENGTH = struct.Struct("!I")
_HEARTBEAT: dict[int, int] = {zmq.HEARTBEAT_IVL: 2000, zmq.HEARTBEAT_TIMEOUT: 10_000}
"""Milliseconds: a host that vanished is noticed by its silence. A slow link may take seconds to pass weights on."""


class Header(msgspec.Struct, frozen=True):
    """Describes a message."""

    run_id: str
    version: int
    """Number of iterations that changed the policy so far."""
    done: bool
    """The run is complete: collectors leave."""
    constant_version: int
    """How often the constant tensors have changed."""
    moving: tuple[TensorField, ...]
    constant: tuple[TensorField, ...]
    holds: int
    """Which tensors follow. 0: none. 1: `moving`. 2: `moving` and `constant`."""


_encoder = msgspec.msgpack.Encoder()


def presence(host: str, pid: int) -> bytes:
    """The topic by which the collector with this process id on `host` shows that it is there."""
    return PRESENT + hashlib.blake2b(f"{host}:{pid}".encode(), digest_size=_PRESENCE_BYTES).digest()


def weights_schema(state: Mapping[str, Tensor]) -> tuple[TensorField, ...]:
    """Name, dtype and shape of every tensor, in order."""
    return tuple(
        TensorField(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in state.items()
    )


def pack(state: Mapping[str, Tensor]) -> bytes:
    """The tensors one after the other, copied from any device."""
    parts = [t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data for t in state.values()]
    return b"".join(parts)


def encode(topic: bytes, header: Header, bodies: Sequence[bytes]) -> bytes:
    """The message. `bodies`: what `pack` made of the tensors that follow; copied once."""
    encoded = _encoder.encode(header)
    return b"".join((topic, LENGTH.pack(len(encoded)), encoded, *bodies))


class _Part(NamedTuple):
    schema: tuple[TensorField, ...]
    body: bytes


class _Newest(NamedTuple):
    """The newest weights, ready to send."""

    run_id: str
    version: int
    done: bool
    constant_version: int
    moving: _Part
    constant: _Part
    is_new: bool
    """`constant` has changed since the last `publish`."""

    def message(self, topic: bytes, holds: int) -> bytes:
        schemas = self.moving.schema, self.constant.schema
        header = Header(self.run_id, self.version, self.done, self.constant_version, *schemas, holds)
        return encode(topic, header, [self.moving.body, self.constant.body][:holds])


class WeightsPublisher:
    """Sends the newest weights from its own thread until `close`."""

    def __init__(
        self, network: Network, run_id: str, *, refresh_s: float = REFRESH_S,
        attendance: Callable[[frozenset[bytes]], None] = lambda present: None,
    ) -> None:  # fmt: skip
        """`attendance`: called in the thread with the topics of the collectors that are there, when they change."""
        # XPUB shows subscriptions, VERBOSE repeated ones too; at most 2 messages wait for a slow subscriber, newer ones
        # are dropped, and the next heartbeat makes it ask
        self._socket = network.bind(
            zmq.XPUB, "weights", options={zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: 2, zmq.MAXMSGSIZE: 1024, **_HEARTBEAT}
        )
        self.address = network.address_of(self._socket)
        self._run_id = run_id
        self._refresh_s = refresh_s
        self._newest: _Newest | None = None
        self._attendance = attendance
        self._present: set[bytes] = set()
        self.published = 0
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
        """Make a copy of `state` the newest weights and wake the thread. Returns before anything is sent.

        `constant` is read only when `constant_version` has changed. RuntimeError if the thread has failed.
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
        """Send what is unsent, then stop the thread (at most 10 s)."""
        self._wake_out.send(b"stop")
        self._thread.end()
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
                self._serve_subscription(newest)
            command = self._wake_in.recv() if self._wake_in in ready else b""
            if newest is not None and command == b"new":
                self._socket.send(newest.message(TOPIC, 2 if newest.is_new else 1), copy=False)
                self.published += 1
                last_sent = time.monotonic()
            elif newest is not None and time.monotonic() - last_sent >= self._refresh_s:
                self._socket.send(newest.message(ALIVE, 0))
                last_sent = time.monotonic()
            running = command != b"stop"
        # 0.5 s for the last message (done) to leave; without a limit this would wait for dead subscribers too
        self._socket.close(linger=500)
        self._wake_in.close(linger=0)

    def _serve_subscription(self, newest: _Newest | None) -> None:
        event = self._socket.recv()
        subscribed, topic = event[:1] == b"\x01", event[1:]
        if topic.startswith(PRESENT):
            (self._present.add if subscribed else self._present.discard)(topic)
            if newest is None or not newest.done:  # at the end they are told to leave
                self._attendance(frozenset(self._present))
        if subscribed and topic.startswith(JOIN) and len(topic) == len(TOPIC) and newest is not None:
            self._socket.send(newest.message(topic, 2), copy=False)


def _part(state: Mapping[str, Tensor]) -> _Part:
    return _Part(weights_schema(state), pack(state))
