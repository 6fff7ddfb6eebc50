"""What a process does when it is asked to stop, by Ctrl-C or SIGTERM.

A trainer that trains only remembers the first signal: the ranks share that before each iteration, so that all stop
after the same one and a checkpoint is saved. At any other time, and on a second signal, the process ends at once,
through its `finally` blocks. All other processes always do.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # seconds, for which the handlers should not wait
    import lightning


class StopRequest:
    """Whether this process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._passed_on = False
        self.training = False
        """True while the training loop looks at `received`."""

    def install(self) -> None:
        """Handle SIGINT and SIGTERM. Again after Lightning has set handlers of its own."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def pass_on(self, trainer: lightning.Trainer) -> None:
        """Ask the ranks that this one started to stop too, once: they may be waiting for fragments."""
        if not self._passed_on:
            self._passed_on = True
            for process in getattr(trainer.strategy.launcher, "procs", []):
                process.send_signal(signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None
        self.received = signal.Signals(number)
        if again or not self.training:
            raise SystemExit(128 + number)


def exit_on_signals(*numbers: signal.Signals) -> None:
    """The first of these signals ends this process through its `finally` blocks, SIGINT or SIGTERM after it at once."""

    def leave(number: int, frame: FrameType | None) -> None:
        # a dying parent sends its signal once a thread, and the next ones would break the way out
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, _leave_at_once)
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, leave)


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
