"""The worker's end of the process of one environment: starts it, talks to it, ends it, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mineonline.envs.messages import Close, Failed, Link, Setup, ToProcess, ToWorker
from mineonline.errors import EnvError
from mineonline.processes.logs import tail

_PREFIX = "mineonline-env-"
_LONGEST_LOG = 2**20
"""Bytes."""


class Ended(Exception):
    """The process of an environment is gone; the text says why."""


class EnvProcess:
    """The worker's end of `python -m <program> <descriptor to read> <descriptor to write> <worker's process id>`."""

    def __init__(self, program: str, setup: Setup, scratch: Path, surroundings: Mapping[str, str]) -> None:
        """`scratch`: a folder of `new_scratch`, removed with the process. `surroundings`: environment variables."""
        self.began = time.monotonic()
        self.fast_resets = -1
        """Of a simulator, in a row; the first reset of an engine is not one."""
        self.scratch = scratch
        self._closing = False
        self._log = scratch / "output.log"
        orders, theirs = os.pipe(), os.pipe()
        with self._log.open("ab") as file:
            descriptors = (orders[0], theirs[1])
            self.process = subprocess.Popen(
                [sys.executable, "-m", program, *map(str, descriptors), str(os.getpid())],
                pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env={**os.environ, "OMP_NUM_THREADS": "1", **surroundings}, start_new_session=True,
            )  # fmt: skip
        os.close(orders[0])
        os.close(theirs[1])
        self.link = Link(theirs[0], orders[1], ToWorker)
        with suppress(Ended):  # noticed when it does not answer
            self.send(setup)

    def send(self, order: ToProcess) -> None:
        """Ended if the process is gone."""
        try:
            self.link.send(order)
        except BrokenPipeError:
            raise Ended("its process ended") from None

    def receive(self) -> Any:
        """Waits for a message. Ended if the process is gone or cannot continue, EnvError if it is the user's to fix."""
        try:
            message = self.link.receive()
        except (EOFError, OSError):
            raise Ended("its process ended") from None
        if isinstance(message, Failed):
            if message.users:
                raise EnvError(message.reason)
            raise Ended(message.reason)
        return message

    def last_words(self) -> str:
        """What it and its engine wrote last."""
        logs = [self._log, *sorted(self.scratch.glob("logs/mc_*.log"))]
        return "\n".join(f"The end of {file.name}:\n{text}" for file in logs if (text := tail(file)))

    def trim_log(self) -> None:
        """Forget what it wrote, if that is much: it may print something at every step, for weeks."""
        with suppress(FileNotFoundError):  # whoever cleans the temporary folder has removed it
            if self._log.stat().st_size > _LONGEST_LOG:
                os.truncate(self._log, 0)

    def end(self) -> None:
        """Kill it, and what it has started; a simulator's engine dies too."""
        with suppress(ProcessLookupError, PermissionError):  # it has ended, and left nothing that is this user's
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.link.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def close(self, deadline: float) -> bool:
        """Ask it, once, to close by itself (MineStudio takes 3 s); kill it at `deadline`. True when it is gone."""
        if not self._closing:
            self._closing = True
            with suppress(Ended):  # it is gone already
                self.send(Close())
        if self.process.poll() is None and time.monotonic() < deadline:
            return False
        self.end()
        return True


def new_scratch() -> Path:
    """A temporary folder for the process of an environment."""
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def remove_orphans() -> None:
    """Remove folders that a worker left behind when it was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
