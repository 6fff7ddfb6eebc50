"""Does a long run stay as it was? hunt_cow, with a fault every 20 s.

    python -m tests.benchmarks.soak [minutes] [seconds between faults] [key=value ...]

Kills or stops a random worker, collector or fork server of the default run, and compares the first third after the
start with the last: env steps per second while nothing is being replaced (the median of the iterations), memory and
file descriptors of the trainer.
"""

from __future__ import annotations

import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from mineonline.run.metrics import read_metrics
from tests.benchmarks.bench_memory import role_of
from tests.helpers.programs import Run, leaves_nothing, processes_of, rows


def main() -> None:
    minutes, every_s = (float(word) for word in (*sys.argv[1:3], *("60", "20")[len(sys.argv[1:3]) :]))
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    run_dir = folder / "run"
    run = Run(
        folder, "collector.batch_timeout_s=10", "collector.start_timeout_s=30", "collector.max_failures=1000",
        "video.every=0", "iterations=1000000", f"run_dir={run_dir}", *sys.argv[3:],
    )  # fmt: skip
    run.wait_for(lambda: rows(run_dir) > 3)
    trainer = psutil.Process(run.process.pid)
    dice, faults = random.Random(0), Counter[str]()
    samples: list[tuple[float, int, int]] = []
    began = time.monotonic()
    while time.monotonic() - began < 60 * minutes:
        time.sleep(every_s)
        if run.process.poll() is not None:
            raise SystemExit(f"it ended after {(time.monotonic() - began) / 60:.0f} minutes:\n{run.output}")
        samples.append((time.monotonic() - began, trainer.memory_info().rss, trainer.num_fds()))
        victims = [p for p in processes_of(run_dir) if role_of(p) in ("worker", "collector", "fork server")]
        if not victims:
            continue
        victim, number = dice.choice(victims), dice.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP))
        try:
            faults[f"{number.name} to a {role_of(victim)}"] += 1
            victim.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    metrics = read_metrics(run_dir / "metrics.csv")
    for process in processes_of(run_dir):
        process.resume()
    run.send(signal.SIGTERM)
    run.wait()
    print(f"{minutes:g} minutes, {rows(run_dir)} iterations, faults: {dict(faults)}")
    speeds = [float(row["env_steps_per_s"]) for row in metrics]
    third = max(1, len(speeds) // 3)
    start, end = statistics.median(speeds[:third]), statistics.median(speeds[-third:])
    print(f"env steps/s: {start:.0f} in the first third, {end:.0f} in the last ({end / start:.2f})")
    part = max(1, len(speeds) // 12)
    course = [statistics.median(speeds[first : first + part]) for first in range(0, len(speeds) - part + 1, part)]
    print("its course, which shows when other programs took part of the machine:", *map(round, course))
    third = max(1, len(samples) // 3)
    for name, column, unit in (("memory of the trainer, MB", 1, 2**20), ("its file descriptors", 2, 1)):
        start, end = (statistics.median(s[column] / unit for s in part) for part in (samples[:third], samples[-third:]))
        print(f"{name}: {start:.0f} in the first third, {end:.0f} in the last")
    print("nothing left behind" if leaves_nothing(run_dir) else "processes are left behind")


if __name__ == "__main__":
    main()
