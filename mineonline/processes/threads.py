"""A thread whose failure is not lost: whoever waits for its work can ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class ServiceThread:
    """Runs `target` until it returns. Its exception is raised by `check`, in the thread that calls that."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin, once."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if it failed."""
        if self._error is not None:
            raise RuntimeError(f"the thread {self._thread.name} failed") from self._error

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 handed over to whoever checks
            self._error = error
