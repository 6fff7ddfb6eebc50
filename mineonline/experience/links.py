"""PATH 1, between collector and trainer: one connection a rank, on which few fragments are under way.

    collector DEALER --fragment--> ROUTER rank
                     <--"taken"---           when the fragment is in the rank's buffer

A collector has at most `WINDOW` fragments under way to a rank. Without such a window, hundreds of small fragments would
wait in the kernel's socket buffers, which no limit of ZeroMQ's counts, and grow old there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from mineonline.network import Keys, connect

WINDOW = 2
"""One travels while the other is taken in."""
TAKEN = b""
"""The answer to a fragment."""


class RankLinks:
    """The collector's end: sends each fragment to the next rank that has room for it. Belongs to one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], addresses: Sequence[str], keys: Keys | None) -> None:
        # twice the window: only a connection that is gone ever refuses a fragment
        options: dict[int, int] = {zmq.SNDHWM: 2 * WINDOW, zmq.IMMEDIATE: 1}
        self._links = [connect(context, zmq.DEALER, [], keys, options) for _ in addresses]
        # a window opens with each handshake: what was under way on a connection that broke is lost, and not answered
        self._monitors = [link.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED) for link in self._links]
        for link, address in zip(self._links, addresses, strict=True):
            link.connect(address)
        self._room = [0] * len(self._links)
        self._next = 0
        self._poller = zmq.Poller()
        for waiting in (*self._links, *self._monitors):
            self._poller.register(waiting, zmq.POLLIN)

    def send(self, frames: list[Any], alive: Callable[[], None]) -> None:
        """Send one fragment to the rank whose turn it is, or the next with room. The frames are not copied.

        Waits while no rank has room, and calls `alive` at least every 0.1 s; `alive` may raise to give up.
        """
        while not self._try(frames):
            self._poller.poll(100)
            alive()

    def close(self) -> None:
        """Close all connections; what was not sent is lost."""
        for link, monitor in zip(self._links, self._monitors, strict=True):
            link.disable_monitor()
            monitor.close(linger=0)
            link.close(linger=0)

    def _try(self, frames: list[Any]) -> bool:
        rank = self._choose()
        if rank is None:
            return False
        try:
            self._links[rank].send_multipart(frames, zmq.DONTWAIT, copy=False)
        except zmq.Again:  # the connection is gone; its window opens when it is back
            self._room[rank] = 0
            return False
        self._room[rank] -= 1
        self._next = (rank + 1) % len(self._links)
        return True

    def _choose(self) -> int | None:
        for rank, (link, monitor) in enumerate(zip(self._links, self._monitors, strict=True)):
            while monitor.poll(0):
                recv_monitor_message(monitor)
                self._room[rank] = WINDOW
            while link.poll(0):
                link.recv()
                # an answer that a broken connection left behind must not widen the window
                self._room[rank] = min(WINDOW, self._room[rank] + 1)
        order = [(self._next + i) % len(self._links) for i in range(len(self._links))]
        return next((rank for rank in order if self._room[rank] > 0), None)
