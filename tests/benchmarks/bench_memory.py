"""How much memory does a run take, and does it grow? Watches a run in progress.

    python -m tests.benchmarks.bench_memory <run folder> [minutes]

Prints the resident memory (without shared pages) of the trainer, each collector and each worker: at the start, at its
peak, and its slope over the second half of the time watched (MB per hour; flat is 0 within the allocator's noise).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import psutil

from tests.helpers.programs import processes_of

EVERY_S = 5.0


def main() -> None:
    run_dir, minutes = Path(sys.argv[1]).absolute(), float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    samples: dict[tuple[str, int], list[tuple[float, float]]] = {}
    began = time.monotonic()
    while time.monotonic() - began < minutes * 60 and (alive := processes_of(run_dir)):
        for process in alive:
            try:
                used, role = process.memory_info(), role_of(process)
            except psutil.NoSuchProcess:
                continue
            row = (time.monotonic() - began, (used.rss - used.shared) / 1e6)
            samples.setdefault((role, process.pid), []).append(row)
        time.sleep(EVERY_S)
    for (role, _), rows in samples.items():
        if len(rows) < 10:
            continue
        seconds, megabytes = np.array(rows).T
        half = len(rows) // 2
        slope = np.polyfit(seconds[half:], megabytes[half:], 1)[0] * 3600
        print(
            f"{role:20} {seconds[-1] / 60:5.1f} min: start {megabytes[0]:6.0f} MB, "
            f"peak {megabytes.max():6.0f} MB, second half {slope:+7.1f} MB per hour"
        )


def role_of(process: psutil.Process) -> str:
    """The role of a process in a run."""
    words = process.cmdline()
    for word, role in {"mineonline.train": "trainer", "mineonline.collect": "collector"}.items():
        if word in words:
            return role
    if "forkserver" not in " ".join(words):
        return "other"
    parent = process.parent()  # a worker has the command line of the fork server that it comes from
    return "worker" if parent is not None and parent.cmdline() == words else "fork server"


if __name__ == "__main__":
    main()
