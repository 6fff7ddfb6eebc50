"""The learning curve, drawn while a run goes, in a process that training never waits for."""

from __future__ import annotations

import logging
import subprocess
import time
from pathlib import Path

import lightning

from mineonline.atomic import partial_file
from mineonline.callbacks import background
from mineonline.callbacks.iteration import IterationCallback
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO
from mineonline.processes.logs import tail

log = logging.getLogger(__name__)

EVERY_S = 60.0


class DrawCurve(IterationCallback):
    """Draws the run's `curve.png` every `every_s` seconds; at the end of a run its summary does.

    Drawing takes seconds of a core, most of it to import matplotlib, so it has a process of its own. The first that
    fails is reported.
    """

    def __init__(self, run_dir: Path, file: Path, every_s: float = EVERY_S) -> None:
        self._run_dir = run_dir
        self._file = file
        self._every_s = every_s
        self._due = time.monotonic() + every_s
        self._log = run_dir / "logs" / "curve.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = False

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        if not trainer.is_global_zero or not self._is_idle() or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every_s
        try:
            with self._log.open("ab") as output:
                words = [str(self._run_dir), f"out={self._file}"]
                self._process = background.start("mineonline.plot", words, self._run_dir, output)
        except OSError as error:  # no process, or no disk
            self._report(str(error))

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._give_up()

    def failed(self) -> None:
        self._give_up()

    def _is_idle(self) -> bool:
        code = None if self._process is None else self._process.poll()
        if self._process is None or code is None:
            return self._process is None
        self._process = None
        if code:
            self._report(f"exit code {code}. The end of {self._log}:\n{tail(self._log)}")
        return True

    def _report(self, reason: str) -> None:
        if not self._failed:
            log.warning("the curve cannot be drawn; training continues. Later failures are not logged. %s", reason)
        self._failed = True

    def _give_up(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            partial_file(self._file, self._process.pid).unlink(missing_ok=True)
            self._process = None
