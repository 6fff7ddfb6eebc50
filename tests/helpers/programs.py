"""The real programs in real processes, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from mineonline.processes.lifetimes import RUN_DIR_VARIABLE, die_with_parent
from tests.helpers.settings import ROOT


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Every living process of a run, found as an operator would."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN_DIR_VARIABLE) == str(run_dir) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def workers_of(collector: psutil.Process) -> list[psutil.Process]:
    """A collector's workers: its fork server started them."""
    return [worker for server in collector.children() for worker in server.children()]


def collector_of(run_dir: Path) -> psutil.Process:
    """A collector of a run that plays: it has workers, unlike the spare."""
    return next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline() and workers_of(p))


def has_spare(run_dir: Path) -> bool:
    """Whether the spare collector of a run has been ready."""
    log = run_dir / "logs" / "spare.log"
    return log.exists() and "waiting for a place" in log.read_text()


LIMIT_S = 600.0
"""For anything that a test waits for: what takes seconds on an idle machine takes minutes on a busy one."""


class Run:
    """`python -m <module> <arguments>` as a child process in its own session, with its output in a file."""

    def __init__(
        self, folder: Path, *arguments: str, module: str = "mineonline.train", paths: Sequence[Path] = (),
        under: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`paths`: further folders with modules. `under`: a program that turns into this one, such as `nohup`."""
        self.output_file = folder / f"output-{time.monotonic_ns()}.txt"
        with self.output_file.open("wb") as file:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                # otherwise it would play on when the tests, or a benchmark, are killed
                preexec_fn=partial(die_with_parent, os.getpid()),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))},
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def wait(self) -> int:
        """The exit code; fails the test with the output if the process does not end within `LIMIT_S`."""
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {LIMIT_S:.0f} s:\n{self.output}")

    def wait_for(self, condition) -> None:
        """Until `condition()`; fails the test if the process ends before, or after `LIMIT_S`."""
        wait_until(lambda: self.process.poll() is not None or condition(), lambda: self.output)
        if self.process.poll() is not None and not condition():
            pytest.fail(f"ended with {self.process.returncode}:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def rows(run_dir: Path) -> int:
    """Iterations in a run's metrics so far."""
    file = run_dir / "metrics.csv"
    return max(0, len(file.read_text().splitlines()) - 1) if file.exists() else 0


def wait_until(condition, explain=lambda: "") -> None:
    """Until `condition()`; fails the test after `LIMIT_S`, with what `explain()` says."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"condition not met after {LIMIT_S:.0f} s:\n{explain()}")
        time.sleep(0.05)


def leaves_nothing(run_dir: Path) -> bool:
    """Waits until no process of the run is left."""
    wait_until(lambda: not processes_of(run_dir), lambda: [p.cmdline() for p in processes_of(run_dir)])
    return True


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
