"""Interrupts calls that take too long, in this process's main thread."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType

_SIGNAL = signal.SIGRTMIN
_current: Deadline | None = None
"""The deadline whose context the main thread is in."""


class Overdue(BaseException):
    """Raised inside a call that takes too long. No `Exception`: code that catches all of these must not swallow it."""


class Deadline:
    """A limit for each of many calls, in a context of which one is open at a time.

        with deadline:
            for ...:
                deadline.calls += 1
                try: ...
                except Overdue: deadline.calls += 1

    What waits in Python, sleeps or waits for a socket is interrupted, at most a fifth of the limit late. What is stuck
    in C code is not: that is left to the collector's watchdog. Outside the main thread nothing is interrupted.
    """

    def __init__(self, limit_s: float) -> None:
        self.calls = 0
        """Counted by whoever calls: a change tells that a call has ended, and costs less than looking at a clock."""
        self._limit_s = limit_s
        self._overdue = -1
        self._closed = threading.Event()
        self._watches = threading.current_thread() is threading.main_thread()
        if self._watches:
            signal.signal(_SIGNAL, _interrupt)
            threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    def __enter__(self) -> None:
        global _current
        self.calls += 1
        if self._watches:
            _current = self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        _current = None

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def is_over(self) -> bool:
        """Whether the present call has taken too long."""
        return self.calls == self._overdue

    def _watch(self) -> None:
        seen, since = -1, 0.0
        while not self._closed.wait(min(1.0, self._limit_s / 10)):
            now = time.monotonic()
            if _current is not self or self.calls != seen:
                seen, since = self.calls, now
            elif now - since > self._limit_s:
                self._overdue = seen
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # the call may have ended since the signal was sent
    if _current is not None and _current.is_over():
        raise Overdue
