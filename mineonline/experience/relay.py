"""PATH 1, in a relay: one connection a rank, for all collectors of a node.

    collector DEALER --fragment--> ROUTER relay DEALER --fragment--> ROUTER rank
                     <--answer----              <--answer----

Each rank has a ROUTER of its own here, so that collectors choose between ranks as they do without a relay. Nothing is
read of a fragment; what does not fit a rank waits in the collectors, whose windows count from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import zmq

from mineonline.experience.wire import WINDOW, RankLinks
from mineonline.processes.sockets import Keys, Network
from mineonline.processes.threads import ServiceThread

_WINDOW = 4096
"""Fragments in flight to a rank: more than a node's collectors have in flight together."""


class _Pending(NamedTuple):
    sender: bytes
    frames: list[Any]


class ExperienceRelay:
    """Passes fragments on to the ranks, and their answers back, in a thread until `close`."""

    def __init__(self, network: Network, ranks: Sequence[str], keys: Keys | None, *, largest_frame: int) -> None:
        """`ranks`: the addresses of their receivers; `largest_frame`: what they accept, in bytes."""
        options: dict[int, int] = {zmq.RCVHWM: WINDOW, zmq.MAXMSGSIZE: largest_frame}
        self._routers = [network.bind(zmq.ROUTER, f"experience-{rank}", options=options) for rank in range(len(ranks))]
        self.addresses = tuple(network.address_of(router) for router in self._routers)
        """Where the node's collectors send to, in the order of the ranks."""
        self._links = [RankLinks(network.context, [address], keys, window=_WINDOW) for address in ranks]
        self._pending: list[_Pending | None] = [None] * len(ranks)
        self._thread = ServiceThread(self._serve, "experience-relay")
        self._thread.start()

    def check(self) -> None:
        """RuntimeError if the thread has failed."""
        self._thread.check()

    def close(self) -> None:
        """Stop the thread (at most 10 s, usually at once) and close the sockets."""
        self._thread.end()
        for link in self._links:
            link.close()
        for router in self._routers:
            router.close(linger=0)

    def _serve(self) -> None:
        while not self._thread.stopping.is_set():
            poller = zmq.Poller()
            for router, link, pending in zip(self._routers, self._links, self._pending, strict=True):
                for waiting in link.sockets:
                    poller.register(waiting, zmq.POLLIN)
                if pending is None and link.has_room():
                    poller.register(router, zmq.POLLIN)
            ready = dict(poller.poll(200))
            for rank, (router, link) in enumerate(zip(self._routers, self._links, strict=True)):
                if router in ready:
                    sender, *frames = router.recv_multipart(copy=False)
                    self._pending[rank] = _Pending(sender.bytes, frames)
                pending = self._pending[rank]
                if pending is not None and link.offer(pending.frames, partial(self._answer, router, pending.sender)):
                    self._pending[rank] = None

    def _answer(self, router: zmq.Socket[bytes], sender: bytes, answer: bytes) -> None:
        router.send_multipart([sender, answer])
