"""PATH 2, receiving end: a collector asks for the newest weights between two batches.

Three conflating sockets, one topic each, because conflating keeps one message a socket, not a topic: the newest weights
for everybody, signs of life, and a topic of its own. Whoever subscribes to its own topic is sent everything there at
once: a joiner, and later who finds that it has missed something.
"""

from __future__ import annotations

import os
import time

import zmq

from mineonline.fragment import LeafSpec
from mineonline.network import Keys, connect
from mineonline.weights.message import ALIVE, JOIN, TOPIC, Weights, decode

_PATIENCE_S = 5.0
"""How long an answer may take before it is asked for again."""


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
        constant: tuple[LeafSpec, ...] = (),
    ) -> None:
        """`schema`: what every message of weights holds; `constant`: what follows it when it has changed."""
        self._own_topic = JOIN + os.urandom(len(TOPIC) - len(JOIN))
        self._sockets = []
        for topic in (TOPIC, ALIVE, self._own_topic):
            # CONFLATE must be set before connecting
            subscriber = connect(context, zmq.SUB, [address], keys, {zmq.CONFLATE: 1})
            subscriber.setsockopt(zmq.SUBSCRIBE, topic)
            self._sockets.append(subscriber)
        self._run_id = run_id
        self._schema, self._constant = schema, constant
        self._version = -1
        self._constant_version = -1
        self._announced = -1
        self.last_heard = self._asked = time.monotonic()

    def newest(self, timeout_s: float = 0.0) -> Weights | None:
        """Weights newer than the last ones returned, or None if none came within `timeout_s`.

        Without the tensors of `constant` where these are as they were. `done` counts as news. WireError if the trainer
        has another model or is another run.
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
                frame = subscriber.recv(copy=False).buffer
                weights = decode(frame, run_id=self._run_id, schema=self._schema, constant=self._constant)
                if self._take(weights):
                    found = weights if found is None else weights._replace(tensors={**found.tensors, **weights.tensors})
            if found is not None or not remaining:
                return found

    def _take(self, weights: Weights) -> bool:
        """Whether these are news that can be used as they are; asks for everything where they cannot."""
        if weights.done:
            return True
        if not weights.tensors:
            # a first sign may come before the weights themselves, which take longer
            if weights.version > self._version and weights.version == self._announced:
                self._ask()
            self._announced = weights.version
            return False
        if weights.version <= self._version:
            return False
        complete = len(weights.tensors) == len(self._schema) + len(self._constant)
        if not complete and weights.constant_version != self._constant_version:
            self._ask()
            return False
        self._version, self._constant_version = weights.version, weights.constant_version
        return True

    def _ask(self) -> None:
        """Subscribe to the own topic anew, which is answered with everything; not while an answer may be under way."""
        if time.monotonic() - self._asked > _PATIENCE_S:
            self._asked = time.monotonic()
            own = self._sockets[-1]
            own.setsockopt(zmq.UNSUBSCRIBE, self._own_topic)
            own.setsockopt(zmq.SUBSCRIBE, self._own_topic)

    def close(self) -> None:
        """Close the sockets."""
        for subscriber in self._sockets:
            subscriber.close(linger=0)
