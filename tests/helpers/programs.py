"""The real programs in real processes, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch

from mineonline.processes.lifetimes import RUN_DIR_VARIABLE
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


class Run:
    """`python -m <module> <arguments>` as a child process in its own session, with its output in a file."""

    def __init__(
        self, folder: Path, *arguments: str, module: str = "mineonline.train", paths: Sequence[Path] = ()
    ) -> None:
        """`paths`: further folders with modules."""
        self.output_file = folder / f"output-{time.monotonic_ns()}.txt"
        with self.output_file.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))},
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """The exit code; fails the test with the output if the process does not end in time."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {timeout_s} s:\n{self.output}")

    def wait_for(self, condition, timeout_s: float) -> None:
        """Until `condition()`; fails the test if the process ends before, or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                pytest.fail(f"condition not met after {timeout_s} s:\n{self.output}")
            time.sleep(0.05)

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


def leaves_nothing(run_dir: Path, within_s: float = 10.0) -> bool:
    """Waits until no process of the run is left; fails the test after `within_s`."""
    deadline = time.monotonic() + within_s
    while processes_of(run_dir):
        assert time.monotonic() < deadline, [p.cmdline() for p in processes_of(run_dir)]
        time.sleep(0.1)
    return True


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
