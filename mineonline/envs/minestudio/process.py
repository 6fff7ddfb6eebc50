"""The worker's end of one simulator's process: starts it, talks to it, ends it, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from mineonline.envs.minestudio.java import COMMAND, SCRATCH
from mineonline.envs.minestudio.messages import Close, Failed, Link, Setup, ToSimulator, ToWorker
from mineonline.envs.minestudio.requirements import FOLDER_VARIABLE, engine_command, lay_out
from mineonline.envs.settings import MineStudioEnvConfig
from mineonline.envs.tasks import Task
from mineonline.errors import EnvError
from mineonline.processes.logs import tail

_PREFIX = "mineonline-simulator-"
_PROGRAM = "mineonline.envs.minestudio.simulator"


class Ended(Exception):
    """A simulator is gone; the text says why."""


class SimulatorProcess:
    """The worker's end of one simulator's process."""

    def __init__(self, config: MineStudioEnvConfig, task: Task) -> None:
        self.began = time.monotonic()
        self.fast_resets = -1
        """In a row; the first reset of an engine is not one."""
        self._closing = False
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._log = self.scratch / "simulator.log"
        orders, theirs = os.pipe(), os.pipe()
        with self._log.open("wb") as file:
            descriptors = (orders[0], theirs[1])
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM, *map(str, descriptors), str(os.getpid())],
                pass_fds=descriptors, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env={**os.environ, **surroundings(config, self.scratch)},
            )  # fmt: skip
        os.close(orders[0])
        os.close(theirs[1])
        self.link = Link(theirs[0], orders[1], ToWorker)
        self.send(Setup(
            msgspec.to_builtins(task), config.image_size, config.render_size, config.host_starts, config.declared(),
        ))  # fmt: skip

    def send(self, order: ToSimulator) -> None:
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

    def end(self) -> None:
        """Kill it; its engine dies too."""
        self._process.kill()
        self._leave()

    def close(self, deadline: float) -> bool:
        """Ask it, once, to close by itself, which takes MineStudio 3 s; kill it at `deadline`. True when it is gone."""
        if not self._closing:
            self._closing = True
            with suppress(Ended):  # it is gone already
                self.send(Close())
        if self._process.poll() is None and time.monotonic() < deadline:
            return False
        self.end()
        return True

    def _leave(self) -> None:
        self._process.wait()
        self.link.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def surroundings(config: MineStudioEnvConfig, scratch: Path) -> dict[str, str]:
    """Environment variables of a simulator: it has its own MineStudio folder, and its `java` is `java.py`."""
    programs = {"java": f'exec "{sys.executable}" -S "{Path(__file__).with_name("java.py")}" "$@"'}
    if config.engine == "world":
        # the stand-in needs no screen
        programs["xvfb-run"] = '[ "$1" = -a ] && shift\nexec "$@"'
    (scratch / "bin").mkdir()
    for name, script in programs.items():
        file = scratch / "bin" / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    lay_out(config.engine, scratch)
    return {
        "PATH": f"{scratch / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        FOLDER_VARIABLE: str(scratch),
        "MALMO_MINECRAFT_OUTPUT_LOGDIR": str(scratch),
        "OMP_NUM_THREADS": "1",
        COMMAND: "\n".join(engine_command(config.engine)),
        SCRATCH: str(scratch),
    }


def remove_orphans() -> None:
    """Remove folders of simulators whose worker was killed before they had an engine: otherwise `java.py` does it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)
