"""PATH 2, receiving end: a collector asks for the newest weights between two batches.

Two conflating sockets, one topic each, because conflating keeps one message a socket, not a topic: the topic for
everybody, and one of its own on which the publisher answers this joiner at once.
"""

from __future__ import annotations

import os
import time

import zmq

from mineonline.fragment import LeafSpec
from mineonline.network import Keys, connect
from mineonline.weights.message import JOIN, TOPIC, Weights, decode


class WeightsSubscriber:
    """The newest weights of a run. Belongs to the thread that made it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        keys: Keys | None,
        *,
        run_id: str,
        schema: tuple[LeafSpec, ...],
    ) -> None:
        own_topic = JOIN + os.urandom(len(TOPIC) - len(JOIN))
        self._sockets = []
        for topic in (TOPIC, own_topic):
            # CONFLATE must be set before connecting
            subscriber = connect(context, zmq.SUB, [address], keys, {zmq.CONFLATE: 1})
            subscriber.setsockopt(zmq.SUBSCRIBE, topic)
            self._sockets.append(subscriber)
        self._run_id = run_id
        self._schema = schema
        self._version = -1
        self.last_heard = time.monotonic()

    def newest(self, timeout_s: float = 0.0) -> Weights | None:
        """Weights newer than the last ones returned, or None if none came within `timeout_s`.

        `done` counts as news. WireError if the trainer has another model or is another run.
        """
        poller = zmq.Poller()
        for subscriber in self._sockets:
            poller.register(subscriber, zmq.POLLIN)
        deadline = time.monotonic() + timeout_s
        found: Weights | None = None
        while True:
            remaining = max(0.0, deadline - time.monotonic())
            ready = dict(poller.poll(int(remaining * 1000)))
            for subscriber in ready:
                self.last_heard = time.monotonic()
                weights = decode(subscriber.recv(copy=False).buffer, run_id=self._run_id, schema=self._schema)
                if weights.version > self._version or weights.done:
                    self._version, found = weights.version, weights
            if found is not None or not remaining:
                return found

    def close(self) -> None:
        """Close the sockets."""
        for subscriber in self._sockets:
            subscriber.close(linger=0)
