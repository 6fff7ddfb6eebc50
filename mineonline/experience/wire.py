"""PATH 1, from process to process: one fragment per message, from a collector to a trainer rank.

    collector DEALER --fragment-----------> ROUTER rank
                     <--taken or refused---           taken: the fragment is in the rank's buffer

A message is a msgpack header and one raw frame per tensor. Decoding copies nothing, unpickles nothing, and uses no byte
before its size and meaning are checked. A collector has at most `WINDOW` fragments in flight to a rank. Without this
window, hundreds of small fragments would grow stale in the kernel's socket buffers, which ZeroMQ's limits do not count.

In this file: the message, the collector's end (`RankLinks`), the rank's end (`Receiver`).
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
import zmq
from torch import Tensor
from zmq.utils.monitor import recv_monitor_message

from mineonline.envs.contract import ActionSpec
from mineonline.envs.task_mix import TASK
from mineonline.errors import DECODE_ERRORS, NotFiniteError, WireError
from mineonline.experience.buffer import FragmentBuffer
from mineonline.fragment import Fragments, Report, TensorField
from mineonline.processes.logs import Repeats
from mineonline.processes.sockets import Keys, Network, connect
from mineonline.processes.threads import ServiceThread

log = logging.getLogger(__name__)

WINDOW = 2
"""Fragments in flight to a rank: one travels while the other is taken in."""
TAKEN, REFUSED, LOST = b"t", b"r", b"l"
"""The answers to a fragment: a rank answers each collector in the order in which it sent. LOST comes from a relay: its
connection to the rank broke while the fragment was in flight."""
Answered = Callable[[bytes], None]
"""Told the answer to a fragment; LOST if it was in flight when the connection broke."""


def _forget(answer: bytes) -> None:
    pass


class Header(msgspec.Struct, frozen=True):
    """First frame of an experience message."""

    run_id: str
    schema: tuple[TensorField, ...]
    """Must equal the receiver's."""
    report: Report


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode(header: Header, tensors: Mapping[str, Tensor]) -> list[Any]:
    """Frames of one fragment. `tensors` must be contiguous, on the CPU, and left unchanged until they are sent."""
    return [_encoder.encode(header), *(_bytes(tensors[field.name]) for field in header.schema)]


def decode(
    frames: Sequence[Any],
    *,
    run_id: str,
    schema: Sequence[TensorField],
    actions: Mapping[str, ActionSpec],
    statistics: Sequence[str],
    tasks: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Report, Fragments]:
    """The report and one fragment (B = 1), which views the frames' memory. WireError says why a message is refused.

    `actions`, `statistics` (which finished episodes must report) and `tasks`: those of the environment's `EnvSpec`.
    """
    try:
        header = _decoder.decode(_view(frames[0]))
    except (*DECODE_ERRORS, IndexError) as error:
        raise WireError(f"header: {error}") from None
    if header.run_id != run_id:
        raise WireError("it belongs to another run")
    if header.schema != tuple(schema):
        raise WireError("its tensors do not match this run's schema")
    for episode in header.report.episodes:
        expected = tasks.get(episode.task) if tasks else statistics
        if expected is None:
            raise WireError("its episodes are of another task")
        if set(episode.statistics) != set(expected):
            raise WireError(f"its episodes must report {', '.join(expected) or 'no statistics'}")
    _check_report(header.report)
    if len(frames) != len(schema) + 1:
        raise WireError(f"{len(frames)} frames, expected {len(schema) + 1}")
    tensors = {field.name: _tensor(_view(frame), field) for field, frame in zip(schema, frames[1:], strict=True)}
    fragment = Fragments.from_named_tensors(tensors)
    _check_values(fragment, actions)
    if tasks:
        _check_range(f"observation.{TASK}", fragment.observation[TASK], len(tasks))
    return header.report, fragment


def _check_report(report: Report) -> None:
    numbers = [*msgspec.structs.astuple(report.timing)]
    for episode in report.episodes:
        numbers += [episode.episode_return, episode.discounted_return, *episode.statistics.values()]
    if not all(map(math.isfinite, numbers)):
        raise WireError("a number in its report is not finite")
    if min(report.env_failures, report.surplus, report.lost) < 0:
        raise WireError("a count in its report is negative")


def _check_values(fragment: Fragments, actions: Mapping[str, ActionSpec]) -> None:
    for name, classes in actions.items():
        if isinstance(classes, int):
            _check_range(f"action.{name}", fragment.action[name], classes)
    for name, tensor in fragment.named_tensors():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise NotFiniteError(f"{name} is not finite")
        # torch reads any byte as a bool; one that is neither 0 nor 1 breaks its logic silently
        if tensor.dtype == torch.bool and int(tensor.view(torch.uint8).max()) > 1:
            raise WireError(f"{name} is not boolean")


def _check_range(name: str, tensor: Tensor, count: int) -> None:
    if int(tensor.min()) < 0 or int(tensor.max()) >= count:
        raise WireError(f"{name} is outside 0..{count - 1}")


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _view(frame: Any) -> Any:
    """The bytes of a zmq.Frame without a copy, or of anything that is bytes already."""
    return getattr(frame, "buffer", frame)


def _tensor(buffer: Any, field: TensorField) -> Tensor:
    dtype = getattr(torch, field.dtype)
    if len(buffer) != field.nbytes:
        raise WireError(f"{field.name} has {len(buffer)} bytes, expected {field.nbytes}")
    return torch.frombuffer(buffer, dtype=dtype).view((1, *field.shape))


class RankLinks:
    """The collector's end: sends each fragment to the next rank that has room for it. Belongs to one thread."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], addresses: Sequence[str], keys: Keys | None, *,
        window: int = WINDOW,
    ) -> None:  # fmt: skip
        """`window`: fragments in flight to a rank."""
        # twice the window, so that only a broken connection refuses a fragment
        options: dict[int, int] = {zmq.SNDHWM: 2 * window, zmq.IMMEDIATE: 1}
        self._window = window
        self._links = [connect(context, zmq.DEALER, [], keys, options) for _ in addresses]
        # each handshake reopens the window: what was in flight when a connection broke is lost, and never answered
        self._monitors = [link.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) for link in self._links]
        for link, address in zip(self._links, addresses, strict=True):
            link.ipv6 = "[" in address
            link.connect(address)
        self._connected = [False] * len(self._links)
        self._in_flight: list[deque[Answered]] = [deque() for _ in self._links]
        self._next = 0
        self.lost = 0
        """Fragments in flight when a connection broke, not reported yet; their ranks may have taken some of them."""
        self.sockets = (*self._links, *self._monitors)
        """What to wait for while there is no room."""
        self._poller = zmq.Poller()
        for waiting in self.sockets:
            self._poller.register(waiting, zmq.POLLIN)

    def send(self, frames: list[Any], alive: Callable[[], None], answered: Answered = _forget) -> None:
        """Send one fragment to the rank whose turn it is, or to the next one with room. The frames are not copied.

        Waits while no rank has room, and calls `alive` at least every 0.1 s; `alive` may raise to give up. `answered`
        is called later, during `send` or `settle`.
        """
        while not self.offer(frames, answered):
            self._poller.poll(100)
            alive()

    def has_room(self) -> bool:
        """Take in answers and new connections; whether a rank has room."""
        self._look()
        return self._choose() is not None

    def settle(self, alive: Callable[[], None]) -> None:
        """Wait until every fragment is answered. Calls `alive` as `send` does."""
        self._look()
        while any(self._in_flight):
            self._poller.poll(100)
            alive()
            self._look()

    def close(self) -> None:
        """Close all connections; unsent fragments are lost."""
        for link, monitor in zip(self._links, self._monitors, strict=True):
            link.disable_monitor()
            monitor.close(linger=0)
            link.close(linger=0)

    def offer(self, frames: list[Any], answered: Answered) -> bool:
        """As `send`, but if no rank has room, False at once."""
        self._look()
        rank = self._choose()
        if rank is None:
            return False
        try:
            self._links[rank].send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:  # the connection is broken; its window reopens when it is back
            self._connected[rank] = False
            return False
        self._in_flight[rank].append(answered)
        self._next = (rank + 1) % len(self._links)
        return True

    def _look(self) -> None:
        """Take in new connections and answers."""
        for rank, (link, monitor) in enumerate(zip(self._links, self._monitors, strict=True)):
            in_flight = self._in_flight[rank]
            while monitor.poll(0):
                recv_monitor_message(monitor)
                self._connected[rank] = True
                self.lost += len(in_flight)
                while in_flight:
                    in_flight.popleft()(LOST)
            while link.poll(0):
                answer = link.recv()
                if in_flight:  # otherwise a connection that broke has left it behind
                    self.lost += answer == LOST
                    in_flight.popleft()(answer)

    def _choose(self) -> int | None:
        order = [(self._next + i) % len(self._links) for i in range(len(self._links))]
        return next(
            (rank for rank in order if self._connected[rank] and len(self._in_flight[rank]) < self._window), None
        )


class Receiver:
    """The rank's end: a thread that fills `buffer` until `close`. Messages that fail a check are refused and counted.

    Each message is answered once it is in the buffer or refused, which lets its collector send another.
    """

    def __init__(
        self,
        network: Network,
        buffer: FragmentBuffer,
        *,
        rank: int,
        run_id: str,
        schema: tuple[TensorField, ...],
        actions: dict[str, ActionSpec],
        statistics: tuple[str, ...],
        tasks: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.largest_frame = 2**20 + max(field.nbytes for field in schema)
        """Bytes. ZeroMQ cuts off who sends a larger one."""
        options: dict[int, int] = {zmq.RCVHWM: WINDOW, zmq.MAXMSGSIZE: self.largest_frame}
        self._socket = network.bind(zmq.ROUTER, f"experience-{rank}", options=options)
        self.address = network.address_of(self._socket)
        self._buffer = buffer
        self._run_id = run_id
        self._schema = schema
        self._actions = actions
        self._statistics = statistics
        self._tasks = tasks
        self._repeats = Repeats(log)
        self._stop = threading.Event()
        self._thread = ServiceThread(self._receive, "receiver")
        self._thread.start()

    def check(self) -> None:
        """RuntimeError if the thread has failed."""
        self._thread.check()

    def close(self) -> None:
        """Stop the thread (at most 10 s, usually at once) and close the socket."""
        self._stop.set()
        self._thread.join(10.0)
        self._socket.close(linger=0)

    def _receive(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(200):
                continue
            sender, *frames = self._socket.recv_multipart(copy=False)
            try:
                report, fragment = decode(
                    frames, run_id=self._run_id, schema=self._schema, actions=self._actions,
                    statistics=self._statistics, tasks=self._tasks,
                )  # fmt: skip
            except WireError as error:
                # numbers and what follows a colon come from the message: without them there are only a few kinds
                kind, _, detail = str(error).partition(": ")
                self._repeats.warning(f"refused a message: {re.sub('[0-9]+', 'N', kind)}", detail)
                self._buffer.refuse(str(error) if isinstance(error, NotFiniteError) else None)
                answer = REFUSED
            else:
                self._buffer.put(fragment, report, self._stop)
                answer = TAKEN
            self._socket.send_multipart([sender, answer])
