"""How many engines of a host may start at the same time."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PAUSE_S = 0.1


@contextmanager
def turn_to_start(limit: int, waits: Callable[[], None]) -> Iterator[None]:
    """Wait until fewer than `limit` processes of this user on this host are inside.

    Waits as long as it takes, and calls `waits` about once a second: whoever is inside has a deadline of its own.
    """
    # a name in Linux's abstract space: no file, and the kernel frees it with its owner
    place = 0
    told = time.monotonic()
    while True:
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0mineonline-start-{os.getuid()}-{place}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                yield
                return
        place += 1
        if place == limit:
            place = 0
            time.sleep(_PAUSE_S)
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                waits()
