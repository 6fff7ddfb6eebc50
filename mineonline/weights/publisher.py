"""PATH 2, sending end: rank 0 keeps the newest weights and gives them to whoever subscribes.

    learner --publish()--> [newest] --publisher thread--> XPUB --> every collector's subscriber

One thread owns the XPUB socket. It sends on three occasions: new weights are there; a joiner subscribed to its own
topic (it alone gets the newest at once); nothing was sent for `refresh_s` (a sign of life, and a second chance for
collectors that outlived a restart of the trainer). Overwritten weights are never sent: only the newest count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import zmq
from torch import Tensor

from mineonline.network import Network
from mineonline.threads import ServiceThread
from mineonline.weights.message import JOIN, TOPIC, encode

REFRESH_S = 5.0


class WeightsPublisher:
    """Serves the newest weights from a thread of its own until `close`."""

    def __init__(self, network: Network, run_id: str, *, refresh_s: float = REFRESH_S) -> None:
        # XPUB sees subscriptions, VERBOSE shows each one; 2 messages wait for a slow subscriber, then newer ones are
        # dropped, and the refresh brings it up to date
        self._socket = network.bind(zmq.XPUB, "weights", options={zmq.XPUB_VERBOSE: 1, zmq.SNDHWM: 2})
        self.address = network.address_of(self._socket)
        self._run_id = run_id
        self._refresh_s = refresh_s
        self._newest: bytes | None = None
        self.published = 0
        self.joined = 0
        self._lock = threading.Lock()
        self._wake_out: zmq.Socket[bytes] = network.context.socket(zmq.PAIR)
        self._wake_in: zmq.Socket[bytes] = network.context.socket(zmq.PAIR)
        self._wake_out.bind("inproc://weights-wake")
        self._wake_in.connect("inproc://weights-wake")
        self._thread = ServiceThread(self._serve, "weights-publisher")
        self._thread.start()

    def publish(self, version: int, state: Mapping[str, Tensor], *, done: bool = False) -> None:
        """Make `state` the newest weights and wake the thread; copies, and returns before anything is sent.

        Raises what ended the thread, if it failed.
        """
        self._thread.check()
        message = encode(self._run_id, version, state, done=done)
        with self._lock:
            self._newest = message
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
            stale = time.monotonic() - last_sent >= self._refresh_s
            if newest is not None and (command == b"new" or stale):
                self._socket.send(TOPIC + newest)
                self.published += 1
                last_sent = time.monotonic()
            running = command != b"stop"
        # a moment for the last message (done) to leave; linger would wait for dead subscribers too
        self._socket.close(linger=500)
        self._wake_in.close(linger=0)

    def _serve_joiner(self, newest: bytes | None) -> None:
        event = self._socket.recv()
        subscribed, topic = event[:1] == b"\x01", event[1:]
        if subscribed and topic.startswith(JOIN) and len(topic) == len(TOPIC) and newest is not None:
            self._socket.send(topic + newest)
            self.joined += 1
