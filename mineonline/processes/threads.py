"""A thread whose failure is not lost: whoever waits for its work can check for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ServiceThread:
    """Runs `target`, which returns soon after `stopping` is set. If it raises, so does `check`, for who calls that."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._error: BaseException | None = None
        self.stopping = threading.Event()
        # a daemon: a signal may end this process when the thread has started, but nobody knows yet to stop it
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; call it once."""
        self._thread.start()

    def check(self) -> None:
        """RuntimeError, caused by the exception in the thread, if it has failed."""
        if self._error is not None:
            raise RuntimeError(f"the thread {self._thread.name} failed") from self._error

    def end(self, timeout_s: float = 10.0) -> None:
        """Ask the thread to stop, and wait until it has, at most `timeout_s`; usually that is at once."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 handed over to whoever checks
            self._error = error
