"""What does waiting cost? CPU of a trainer that waits for fragments, and of a collector that waits for room.

    python -m tests.benchmarks.bench_waiting [seconds]

First a trainer with `collector.count=0` that nobody joins; then the collector of a trainer that is stopped (SIGSTOP).
Target: less than 3 % of a core each.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.programs import processes_of, rows
from tests.helpers.settings import CARTPOLE


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "waits"
        run = start(run_dir, "collector.count=0")
        wait_until(lambda: (run_dir / "join").exists())
        time.sleep(5)
        report("trainer, waits for fragments", run_dir, seconds, skip=())
        run.terminate()
        run.wait(20)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "full"
        run = start(run_dir)
        wait_until(lambda: rows(run_dir) > 5)
        run.send_signal(signal.SIGSTOP)
        time.sleep(5)
        report("collector and workers, wait for room", run_dir, seconds, skip=(run.pid,))
        run.send_signal(signal.SIGCONT)
        run.terminate()
        run.wait(20)


def start(run_dir: Path, *overrides: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mineonline.train", *CARTPOLE, "iterations=100000", f"run_dir={run_dir}", *overrides],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_until(condition, limit_s: float = 120) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the run did not get that far")
        time.sleep(0.1)


def report(what: str, run_dir: Path, seconds: float, skip: tuple[int, ...]) -> None:
    processes = [process for process in processes_of(run_dir) if process.pid not in skip]
    before = [process.cpu_times() for process in processes]
    time.sleep(seconds)
    for process, then in zip(processes, before, strict=True):
        now = process.cpu_times()
        share = (now.user + now.system - then.user - then.system) / seconds
        print(f"{what}: {' '.join(process.cmdline()[1:4])[:50]:50} {share:6.2%} of a core")


if __name__ == "__main__":
    main()
