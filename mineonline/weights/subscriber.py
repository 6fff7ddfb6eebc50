"""PATH 2, in a collector: keeps the newest weights until the collector takes them, between rollouts.

    XPUB ──▶ SUB, emptied at once by a thread ──▶ [newest] ──newest()──▶ collector

Three topics: the newest weights, heartbeats, and the subscriber's own. A collector that subscribes to its own topic
gets all tensors there at once. It does so when it joins, and again when it finds that it has missed something.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import torch
import zmq
from torch import Tensor

from mineonline.errors import DECODE_ERRORS, WireError
from mineonline.fragment import TensorField
from mineonline.processes.join import RunComplete, TrainerGone
from mineonline.processes.sockets import Keys, connect
from mineonline.processes.threads import ServiceThread
from mineonline.weights.publisher import ALIVE, JOIN, LENGTH, TOPIC, Header

SILENCE_S = 60.0
"""A trainer that has been silent for this long is gone; the publisher sends something every 5 s."""
_PATIENCE_S = 5.0
"""How long to wait for an answer before asking again."""

_DTYPES = {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_decoder = msgspec.msgpack.Decoder(Header)


class Weights(NamedTuple):
    """Decoded weights; the tensors view the message's memory."""

    version: int
    done: bool
    constant_version: int
    moving: dict[str, Tensor]
    """Empty in a heartbeat."""
    constant: dict[str, Tensor]
    """Empty in all messages but those that hold every tensor."""
    complete: bool
    """The message holds every tensor."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that the message holds."""
        return {**self.moving, **self.constant}

    def over(self, earlier: Weights | None) -> Weights:
        """These weights, with the tensors of `earlier` where this message has none."""
        if earlier is None:
            return self
        return self._replace(
            moving={**earlier.moving, **self.moving}, constant={**earlier.constant, **self.constant},
            complete=self.complete or earlier.complete,
        )  # fmt: skip


class Model(NamedTuple):
    """The tensors that a run's weights must have."""

    moving: tuple[TensorField, ...]
    constant: tuple[TensorField, ...] = ()


def decode(frame: Any, *, run_id: str, model: Model | None) -> Weights:
    """The weights in a message, topic included. `model` None takes whatever the trainer has.

    WireError if the message is broken, or of another run or model.
    """
    view = memoryview(frame)[len(TOPIC) :]
    if len(view) < LENGTH.size:
        raise WireError(f"weights message of only {len(view)} bytes")
    (length,) = LENGTH.unpack(view[: LENGTH.size])
    body = LENGTH.size + length
    try:
        header = _decoder.decode(view[LENGTH.size : body])
    except DECODE_ERRORS as error:
        raise WireError(f"weights header: {error}") from None
    if header.run_id != run_id:
        raise WireError("weights of another run")
    found = Model(header.moving, header.constant)
    if model is not None and found != model:
        raise WireError(f"weights of another model: {_difference(found, model)}")
    moving: dict[str, Tensor] = {}
    constant: dict[str, Tensor] = {}
    for part, fields in ((moving, header.moving), (constant, header.constant))[: header.holds]:
        for field in fields:
            if field.dtype not in _DTYPES or min(field.shape, default=0) < 0:
                raise WireError(f"weights of an unknown kind: {field.name} {field.dtype}{field.shape}")
            if body + field.nbytes > len(view):
                raise WireError(f"weights end inside {field.name}")
            raw = view[body : body + field.nbytes]
            part[field.name] = torch.frombuffer(raw, dtype=getattr(torch, field.dtype)).view(field.shape)
            body += field.nbytes
    if body != len(view):
        raise WireError(f"weights have {len(view) - body} bytes too many")
    complete = header.holds > 1 or not header.constant
    return Weights(header.version, header.done, header.constant_version, moving, constant, complete)


def _difference(found: Model, expected: Model) -> str:
    theirs, ours = (model.moving + model.constant for model in (found, expected))
    for their, our in zip(theirs, ours, strict=False):
        if their != our:
            return f"{their.name} {their.dtype}{their.shape}, expected {our.name} {our.dtype}{our.shape}"
    return f"{len(theirs)} tensors, expected {len(ours)}"


class WeightsSubscriber:
    """Receives the newest weights of a run, in a thread until `close`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        keys: Keys | None,
        *,
        run_id: str,
        model: Model | None,
    ) -> None:
        """`model`: what the weights must have; None takes whatever the trainer has."""
        self._own_topic = JOIN + os.urandom(len(TOPIC) - len(JOIN))
        # not CONFLATE: a message that arrives while its reader looks waits there unseen, until another one comes
        self._socket = connect(context, zmq.SUB, [address], keys, {zmq.RCVHWM: 2})
        for topic in (TOPIC, ALIVE, self._own_topic):
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._run_id = run_id
        self._model = model
        self._version = -1
        self._constant_version = -1
        self._announced = -1
        self.last_heard = self._asked = time.monotonic()
        self._changed = threading.Condition()
        self._found: Weights | None = None
        self._refused: WireError | None = None
        self._thread = ServiceThread(self._receive, "weights-subscriber")
        self._thread.start()

    def newest(self, timeout_s: float = 0.0) -> Weights | None:
        """Weights newer than the last ones returned, or None if none came within `timeout_s`.

        `constant` is empty if it has not changed. Weights with `done` always count as newer. WireError
        if the trainer has another model or belongs to another run.
        """
        self._thread.check()
        with self._changed:
            self._changed.wait_for(lambda: self._found is not None or self._refused is not None, timeout_s)
            if self._refused is not None:
                raise self._refused
            found, self._found = self._found, None
        return found

    def _receive(self) -> None:
        while not self._thread.stopping.is_set() and self._refused is None:
            if not self._socket.poll(100):
                continue
            self.last_heard = time.monotonic()
            frame = self._socket.recv(copy=False).buffer
            with self._changed:
                try:
                    weights = decode(frame, run_id=self._run_id, model=self._model)
                    if self._take(weights):
                        self._found = weights.over(self._found)
                except WireError as error:
                    self._refused = error
                self._changed.notify()

    def _take(self, weights: Weights) -> bool:
        """Whether these weights are newer and can be used; asks for all tensors if some are missing."""
        if weights.done:
            return True
        if not weights.moving:
            # the first heartbeat of a version may overtake its weights, which take longer
            if weights.version > self._version and weights.version == self._announced:
                self._ask()
            self._announced = weights.version
            return False
        if weights.version <= self._version:
            return False
        if not weights.complete and weights.constant_version != self._constant_version:
            self._ask()
            return False
        self._version, self._constant_version = weights.version, weights.constant_version
        return True

    def _ask(self) -> None:
        """Subscribe to the own topic again, to get all tensors there; not while an answer may be on its way."""
        if time.monotonic() - self._asked > _PATIENCE_S:
            self._asked = time.monotonic()
            self._socket.setsockopt(zmq.UNSUBSCRIBE, self._own_topic)
            self._socket.setsockopt(zmq.SUBSCRIBE, self._own_topic)

    def close(self) -> None:
        """Stop the thread (0.1 s) and close the socket."""
        self._thread.end()
        self._socket.close(linger=0)


class Presence:
    """Shows a trainer which collectors are there, until `close`, or until this process or its host is gone."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._context = context
        self._socket: zmq.Socket[bytes] | None = None
        self._address = ""
        self._topics: frozenset[bytes] = frozenset()

    def show(self, address: str, keys: Keys | None, topics: frozenset[bytes]) -> None:
        """Let these collectors (see `presence`) be there at the publisher with this address, and at no other."""
        if address != self._address:
            self.close()
            self._address = address
            self._socket = connect(self._context, zmq.SUB, [address], keys)
        assert self._socket is not None
        for topic in topics - self._topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        for topic in self._topics - topics:
            self._socket.setsockopt(zmq.UNSUBSCRIBE, topic)
        self._topics = topics

    def close(self) -> None:
        """Be gone."""
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket, self._address, self._topics = None, "", frozenset()


class WeightsInbox:
    """The newest weights that nobody has taken yet, and whether the trainer is still there."""

    def __init__(self, subscriber: WeightsSubscriber, moved: Callable[[], bool]) -> None:
        """`moved`: whether the run's trainer listens at another address now; called once per second."""
        self._subscriber = subscriber
        self._moved = moved
        self._asked = time.monotonic()
        self._weights: Weights | None = None

    def take(self, timeout_s: float = 0.0) -> Weights | None:
        """Weights that were not taken before, or None if there are none within `timeout_s`. Raises as `look` does."""
        self.look(timeout_s)
        weights, self._weights = self._weights, None
        return weights

    def look(self, timeout_s: float = 0.0) -> None:
        """Fetch what has arrived, waiting `timeout_s` at most. RunComplete or TrainerGone if this run is over."""
        try:
            weights = self._subscriber.newest(timeout_s)
        except WireError as error:  # another trainer listens at the same address
            raise TrainerGone(str(error)) from None
        if weights is not None and weights.done:
            raise RunComplete
        if weights is not None:
            self._weights = weights.over(self._weights)
        now = time.monotonic()
        if now - self._subscriber.last_heard > SILENCE_S:
            raise TrainerGone(f"the trainer has been silent for {SILENCE_S:.0f} s")
        if now - self._asked > 1.0:
            self._asked = now
            if self._moved():
                raise TrainerGone("the trainer, or a relay, has come or gone")
