"""PATH 1, where the trainer begins: one ROUTER socket a rank, read by a thread of its own into the buffer.

Each message is answered when it was taken in (or refused), which is what lets its collector send another: `links.py`.
"""

from __future__ import annotations

import logging
import threading

import zmq

from mineonline.errors import NotFiniteError, WireError
from mineonline.experience.buffer import FragmentBuffer
from mineonline.experience.links import TAKEN, WINDOW
from mineonline.experience.wire import decode
from mineonline.fragment import LeafSpec
from mineonline.network import Network
from mineonline.threads import ServiceThread

log = logging.getLogger(__name__)


class Receiver:
    """Fills `buffer` from the network until `close`. What must not be trusted is refused, counted and logged."""

    def __init__(
        self,
        network: Network,
        buffer: FragmentBuffer,
        *,
        rank: int,
        run_id: str,
        schema: tuple[LeafSpec, ...],
        actions: dict[str, int],
        statistics: tuple[str, ...],
    ) -> None:
        largest = 2**20 + max(leaf_bytes(leaf) for leaf in schema)
        options: dict[int, int] = {zmq.RCVHWM: WINDOW, zmq.MAXMSGSIZE: largest}
        self._socket = network.bind(zmq.ROUTER, f"experience-{rank}", options=options)
        self.address = network.address_of(self._socket)
        self._buffer = buffer
        self._run_id = run_id
        self._schema = schema
        self._actions = actions
        self._statistics = statistics
        self._stop = threading.Event()
        self._thread = ServiceThread(self._receive, "receiver")
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if it failed."""
        self._thread.check()

    def close(self) -> None:
        """Stop the thread (at most 1 s) and close the socket."""
        self._stop.set()
        self._thread.join(1.0)
        self._socket.close(linger=0)

    def _receive(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(200):
                continue
            sender, *frames = self._socket.recv_multipart(copy=False)
            try:
                header, fragment = decode(
                    frames, run_id=self._run_id, schema=self._schema, actions=self._actions, statistics=self._statistics
                )
            except WireError as error:
                log.warning("refused a message: %s", error)
                self._buffer.refuse(str(error) if isinstance(error, NotFiniteError) else None)
            else:
                self._buffer.put(fragment, header, self._stop)
            self._socket.send_multipart([sender, TAKEN])


def leaf_bytes(leaf: LeafSpec) -> int:
    """Size of one fragment's tensor; 8 bytes an element at most."""
    count = 8
    for size in leaf.shape:
        count *= size
    return count
