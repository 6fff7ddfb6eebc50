"""How a collector joins a run: it knows one address and gets everything else in the answer.

Rank 0 answers. The collectors that the trainer starts are given its address; others read it from the file `join` in the
run folder. A relay answers for rank 0 on its node, and writes its address to another file there (`run/joining.py`).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq

from mineonline.errors import DECODE_ERRORS
from mineonline.processes.logs import Repeats
from mineonline.processes.sockets import Keys, Network, connect
from mineonline.processes.threads import ServiceThread

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 7
"""Covers every message between trainer and collectors, here and on both paths. Raise it when a message changes."""
_LONGEST_REQUEST = 2**16
"""Bytes. ZeroMQ cuts off whoever sends more, before it is read."""
JOIN_FILE = "join"
"""In the run folder: the address to join at, while a trainer listens."""
DONE_FILE = "done"
"""In the run folder, once the run is complete."""


class RunComplete(Exception):
    """The trainer said that the run is complete: the collector leaves."""


class TrainerGone(Exception):
    """The trainer is silent, or another one has replaced it: the collector joins again."""


class Request(msgspec.Struct, frozen=True, tag="request"):
    """A collector wants to join."""

    protocol_version: int
    host: str
    pid: int
    asked_at: int
    """Nanoseconds: the same whenever this collector repeats an unanswered request, so that it is counted once."""
    lost: str = ""
    """Why its workers ended, if it joins again because it lost them."""
    relay: bool = False
    """It is a relay, which only needs the addresses."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Everything that a collector needs."""

    run_id: str
    collector_id: int
    """Unique in the run: it decides the seeds of the collector's environments. -1 for a relay."""
    config: str
    """The resolved configuration, as JSON."""
    experience: tuple[str, ...]
    """Addresses of the ranks' receivers."""
    weights: str
    """Address of the publisher."""
    largest_frame: int
    """Bytes. A receiver cuts off who sends a larger one."""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The collector cannot join."""

    reason: str


_reply: msgspec.msgpack.Decoder[Welcome | Refusal] = msgspec.msgpack.Decoder(Welcome | Refusal)
_request = msgspec.msgpack.Decoder(Request)


class JoinServer:
    """Answers who wants to join, in a thread, from `open` until `close`. Who asks earlier waits."""

    def __init__(self, network: Network, port: int = 0) -> None:
        self._socket = network.bind(zmq.ROUTER, "join", port=port, options={zmq.MAXMSGSIZE: _LONGEST_REQUEST})
        self.address = network.address_of(self._socket)
        self._repeats = Repeats(log)
        self._thread: ServiceThread | None = None
        self._file: Path | None = None

    def open(self, answer: Callable[[Request], Welcome | Refusal | None], file: Path) -> None:
        """Start answering, and write the address to `file`. `answer` None: no answer, so that it is asked again."""
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.write_text(self.address)
        self._file = partial.replace(file)
        self._thread = ServiceThread(lambda: self._serve(answer), "join-server")
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the address file still says where this server is: another one may have written to it."""
        try:
            return self._file is not None and self._file.read_text() == self.address
        except FileNotFoundError:
            return False
        except OSError:  # its file server fails, and says nothing of another one
            return True

    def check(self) -> None:
        """RuntimeError if the thread has failed."""
        if self._thread is not None:
            self._thread.check()

    def close(self) -> None:
        """Stop the thread (at most 10 s, usually at once), close the socket and remove the address file."""
        if self._file is not None and self.is_current:
            with suppress(OSError):
                self._file.unlink()
        if self._thread is not None:
            self._thread.end()
        self._socket.close(linger=0)

    def _serve(self, answer: Callable[[Request], Welcome | Refusal | None]) -> None:
        assert self._thread is not None
        while not self._thread.stopping.is_set():
            if self._socket.poll(200):
                asker, *parts = self._socket.recv_multipart()
                message = b"".join(parts[1:])  # after the empty part that a REQ socket puts first
                reply = self._answer(message, answer)
                if reply is not None:
                    self._socket.send_multipart([asker, b"", msgspec.msgpack.encode(reply)])

    def _answer(
        self, message: bytes, answer: Callable[[Request], Welcome | Refusal | None]
    ) -> Welcome | Refusal | None:
        try:
            request = _request.decode(message)
        except DECODE_ERRORS as error:
            self._repeats.warning("refused a message to the join server", str(error))
            return Refusal(f"not a join request ({error}). Install the same mineonline on both.")
        if request.protocol_version != PROTOCOL_VERSION:
            reply: Welcome | Refusal | None = Refusal(
                f"the trainer speaks protocol version {PROTOCOL_VERSION}, the collector {request.protocol_version}: "
                "install the same mineonline on both."
            )
        else:
            reply = answer(request)
        if isinstance(reply, Refusal):
            self._repeats.warning("refused a collector", reply.reason)
        return reply


class Member(NamedTuple):
    """A collector that has joined."""

    collector_id: int
    joined_at: float
    """Seconds since the epoch."""
    lost: str
    """Why its workers ended, if it has joined again because it lost them."""
    asked_at: int
    """`Request.asked_at`."""


class Admissions:
    """Numbers the collectors that join rank 0."""

    def __init__(self) -> None:
        self._repeats = Repeats(log)
        self._lock = threading.Lock()
        self.first_id = 0
        """Id of the first; the others count on from there."""
        self.members: dict[tuple[str, int], Member] = {}
        """Host and process id of each collector -> how it joined last. Replaced, never changed in place."""
        self.joined = 0
        """Collectors so far; one that joins again counts again."""
        self.restarts = 0
        """How many of them had lost their workers."""

    def number(self, request: Request) -> int:
        """The id of the collector that asks; the same if it asks again. -1 for a relay."""
        if request.relay:
            log.info("a relay on %s", request.host)
            return -1
        asker = (request.host, request.pid)
        with self._lock:
            known = self.members.get(asker)
            if known is not None and known.asked_at == request.asked_at:
                return known.collector_id
            if request.lost:
                what = "a collector lost its workers and starts new ones"
                self._repeats.warning(what, f"{request.host}: {request.lost}")
                self.restarts += 1
            member = Member(self.first_id + self.joined, time.time(), request.lost, request.asked_at)
            self.members = {**self.members, asker: member}
            self.joined += 1
        return member.collector_id

    def forget(self, gone: Mapping[tuple[str, int], Member]) -> None:
        """These collectors have left, unless they have joined again since."""
        with self._lock:
            self.members = {asker: member for asker, member in self.members.items() if gone.get(asker) is not member}


def request_of(*, asked_at: int, lost: str = "", relay: bool = False) -> Request:
    """What this process asks with."""
    return Request(PROTOCOL_VERSION, socket.gethostname(), os.getpid(), asked_at, lost[:1000], relay)


def join(
    context: zmq.Context[zmq.Socket[bytes]], address: str, keys: Keys | None, request: Request, *, timeout_s: float,
    moved: Callable[[], bool] = lambda: False,
) -> Welcome | Refusal | None:  # fmt: skip
    """Ask to join. None if nobody answers within `timeout_s`, or if `moved`, which is called every 0.2 s, is True."""
    asking = connect(context, zmq.REQ, [address], keys)
    deadline = time.monotonic() + timeout_s
    try:
        asking.send(msgspec.msgpack.encode(request))
        while not asking.poll(200):
            if time.monotonic() > deadline or moved():
                return None
        return _reply.decode(asking.recv())
    finally:
        asking.close(linger=0)
