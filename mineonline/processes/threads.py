"""A thread whose failure is not lost: whoever waits for its work can check for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ServiceThread:
    """Runs `target` until it returns. If that raises, so does `check`, in the thread that calls it."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._error: BaseException | None = None
        # a daemon: a signal may end this process when the thread has started, but nobody knows yet to stop it
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; call it once."""
        self._thread.start()

    def check(self) -> None:
        """RuntimeError, caused by the exception in the thread, if it has failed."""
        if self._error is not None:
            raise RuntimeError(f"the thread {self._thread.name} failed") from self._error

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end, at most `timeout_s`."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 handed over to whoever checks
            self._error = error
