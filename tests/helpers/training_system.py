"""A training system as a program of its own, whose games count their steps."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.helpers.counted_game import FOLDER, steps_of
from tests.helpers.settings import ROOT

LONGEST_START_S = 180.0


class DoesNotPlay(Exception):
    """With the end of the program's output."""


class System:
    """It and all that it starts; close it."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._log, self._counts = folder / "log", folder / "counts"
        self._counts.mkdir(parents=True)
        environment = {**os.environ, FOLDER: str(self._counts), "OMP_NUM_THREADS": "1"}
        with self._log.open("w") as out:
            self._program = subprocess.Popen(
                words, env=environment, stdout=out, stderr=out, start_new_session=True, cwd=ROOT
            )
        self._seen: set[psutil.Process] = set()

    def wait_for(self, files: int) -> None:
        """Until that many games, or groups of games that count together, have taken a step. Raises DoesNotPlay."""
        deadline = time.monotonic() + LONGEST_START_S
        while len(steps_of(self._counts)) < files:
            if self._program.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            time.sleep(0.5)

    def played(self) -> tuple[int, float]:
        """Steps, and CPU seconds of all processes, with those that have ended. Raises DoesNotPlay."""
        if self._program.poll() is not None:
            raise self._failure()
        used_s = 0.0
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                used_s += sum(process.cpu_times()[:4])
        return sum(steps_of(self._counts).values()), used_s

    def suspend(self) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def close(self) -> None:
        self.resume()
        self._program.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._program.wait(10)
        for process in self._seen:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._program.wait()

    def _family(self) -> set[psutil.Process]:
        """The program and all that it has started; also what outlives it, if it was seen before."""
        with suppress(psutil.NoSuchProcess):
            program = psutil.Process(self._program.pid)
            self._seen |= {program, *program.children(recursive=True)}
        return self._seen

    def _failure(self) -> DoesNotPlay:
        return DoesNotPlay(f"does not play:\n{self._log.read_text()[-3000:]}")
