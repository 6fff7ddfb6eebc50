"""Ctrl-C, SIGTERM and Slurm's warning: one object that remembers being asked to stop.

While training, the first signal only sets a flag, which the ranks share before each iteration, so that all stop after
the same one and a checkpoint is saved. At any other time, and when a second signal comes, the process ends at once,
through its `finally` blocks.
"""

from __future__ import annotations

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
