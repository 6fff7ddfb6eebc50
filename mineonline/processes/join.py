"""How a collector joins a run: it knows one address and gets everything else in the answer.

Rank 0 answers on a REP socket. The collectors that the trainer starts are given its address; others read it from the
file `join` in the run folder.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from mineonline.errors import DECODE_ERRORS, CollectorError
from mineonline.processes.logs import Repeats
from mineonline.processes.sockets import Keys, Network, connect
from mineonline.processes.threads import ServiceThread

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 5
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


Refuses = Callable[[Request], str | None]
"""Why a collector cannot join, or None if it can."""


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Everything that a collector needs."""

    run_id: str
    collector_id: int
    """Unique in the run: it decides the seeds of the collector's environments."""
    config: str
    """The resolved configuration, as JSON."""
    experience: tuple[str, ...]
    """Addresses of the ranks' receivers."""
    weights: str
    """Address of the publisher."""


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The collector cannot join."""

    reason: str


_reply: msgspec.msgpack.Decoder[Welcome | Refusal] = msgspec.msgpack.Decoder(Welcome | Refusal)
_request = msgspec.msgpack.Decoder(Request)


class JoinServer:
    """Answers collectors in a thread, from `open` until `close`. Collectors that ask earlier wait."""

    def __init__(self, network: Network, port: int) -> None:
        self._socket = network.bind(zmq.REP, "join", port=port, options={zmq.MAXMSGSIZE: _LONGEST_REQUEST})
        self.address = network.address_of(self._socket)
        self._stop = threading.Event()
        self._repeats = Repeats(log)
        self._thread: ServiceThread | None = None
        self._file: Path | None = None
        self.joined = 0
        """Collectors so far; one that joins again counts again."""
        self._ids: dict[tuple[str, int, int], int] = {}
        self.restarts = 0
        """How many of them had lost their workers."""

    def open(self, welcome: Callable[[int], Welcome], run_dir: Path, refuses: Refuses = lambda request: None) -> None:
        """Start answering, and write the address file. `welcome` makes the answer for a collector id."""
        partial = run_dir / f".{JOIN_FILE}.{os.getpid()}"
        partial.write_text(self.address)
        self._file = partial.replace(run_dir / JOIN_FILE)
        self._thread = ServiceThread(lambda: self._serve(welcome, refuses), "join-server")
        self._thread.start()

    def check(self) -> None:
        """RuntimeError if the thread has failed."""
        if self._thread is not None:
            self._thread.check()

    def close(self) -> None:
        """Stop the thread (at most 10 s, usually at once), close the socket and remove the address file."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)
        self._socket.close(linger=0)
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _serve(self, welcome: Callable[[int], Welcome], refuses: Refuses) -> None:
        while not self._stop.is_set():
            if self._socket.poll(200):
                message = b"".join(self._socket.recv_multipart())  # of one part, if it is a request
                self._socket.send(msgspec.msgpack.encode(self._answer(message, welcome, refuses)))

    def _answer(self, message: bytes, welcome: Callable[[int], Welcome], refuses: Refuses) -> Welcome | Refusal:
        try:
            request = _request.decode(message)
        except DECODE_ERRORS as error:
            self._repeats.warning("refused a message to the join server", str(error))
            return Refusal(f"not a join request ({error}). Install the same mineonline on both.")
        if request.protocol_version != PROTOCOL_VERSION:
            reason: str | None = (
                f"the trainer speaks protocol version {PROTOCOL_VERSION}, the collector {request.protocol_version}: "
                "install the same mineonline on both."
            )
        else:
            reason = refuses(request)
        if reason is not None:
            self._repeats.warning("refused a collector", reason)
            return Refusal(reason)
        asker = (request.host, request.pid, request.asked_at)
        if asker in self._ids:
            return welcome(self._ids[asker])
        if request.lost:
            self._repeats.warning("a collector lost its workers and starts new ones", f"{request.host}: {request.lost}")
            self.restarts += 1
        self._ids[asker] = self.joined
        self.joined += 1
        return welcome(self._ids[asker])


def join(
    context: zmq.Context[zmq.Socket[bytes]], address: str, keys: Keys | None, *, asked_at: int, timeout_s: float,
    moved: Callable[[], bool] = lambda: False, lost: str = "",
) -> Welcome | None:  # fmt: skip
    """Ask to join. None if nobody answers within `timeout_s`, or if `moved` returns True, which is asked every 0.2 s.

    `asked_at`: the same for every repetition. `lost`: why its workers ended, if that is why this collector joins again.
    CollectorError if the trainer refuses.
    """
    request = connect(context, zmq.REQ, [address], keys)
    deadline = time.monotonic() + timeout_s
    try:
        request.send(
            msgspec.msgpack.encode(Request(PROTOCOL_VERSION, socket.gethostname(), os.getpid(), asked_at, lost[:1000]))
        )
        while not request.poll(200):
            if time.monotonic() > deadline or moved():
                return None
        answer = _reply.decode(request.recv())
    finally:
        request.close(linger=0)
    if isinstance(answer, Refusal):
        raise CollectorError(f"{address} refused this collector: {answer.reason}")
    return answer
