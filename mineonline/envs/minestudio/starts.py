"""Limits how many engines start at the same time on a host."""

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
    """Wait until fewer than `limit` processes of this user on this host are in this context.

    Waits as long as it takes, since those inside have their own deadlines; calls `waits` about once a second.
    """
    # a socket name in Linux's abstract namespace: no file, and the kernel frees it when its owner dies
    slot = 0
    told = time.monotonic()
    while True:
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0mineonline-start-{os.getuid()}-{slot}")
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                yield
                return
        slot += 1
        if slot == limit:
            slot = 0
            time.sleep(_PAUSE_S)
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                waits()
