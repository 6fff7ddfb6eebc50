"""Environments at Minecraft's pace: which part of the decisions that they could take do they take, while a run learns?

    python -m tests.benchmarks.bench_pace [iterations]

16 environments of `env=synthetic` in one worker, with steps of 25 ms, constant or lognormal, and a policy that decides
at once or takes 12 ms more. The ideal is N / (mean step + those 12 ms). Then gymnasium's games that sleep as long, a
process each. Prints the share of the ideal (over the last two thirds of the iterations), and the CPU of the collector's
processes, as a share of one core, without the start of a spare.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from mineonline.run.metrics import read_metrics
from tests.benchmarks.bench_memory import role_of
from tests.helpers.programs import Run, processes_of, rows

ENVS, STEP_MS, POLICY_MS = 16, 25, 12
SHAPE = [
    "collector.workers=1", f"collector.envs_per_worker={ENVS}", f"buffer.fragments_per_iteration={ENVS}",
    "fragment.length=32", "video.every=0", "collector.spare=false",
]  # fmt: skip
SYNTHETIC = [*SHAPE, "env=synthetic", f"env.step_ms={STEP_MS}"]
GAMES = [*SHAPE, "env=gym", "env.id=tests.helpers.odd_envs:Sleeps-v0", f"+env.kwargs.ms={STEP_MS}", "policy=mlp"]
SLOW = ["policy=own", "policy._target_=tests.helpers.slow_policy.SlowPolicy", f"+policy.kwargs.ms={POLICY_MS}"]
CASES = {
    "constant": (SYNTHETIC, 0),
    "lognormal, sigma 0.5": ([*SYNTHETIC, "env.jitter=0.5"], 0),
    "lognormal, sigma 1.0": ([*SYNTHETIC, "env.jitter=1"], 0),
    f"constant, policy + {POLICY_MS} ms": ([*SYNTHETIC, *SLOW], POLICY_MS),
    f"lognormal, sigma 0.5, policy + {POLICY_MS} ms": ([*SYNTHETIC, "env.jitter=0.5", *SLOW], POLICY_MS),
    "gymnasium, constant, in processes": (GAMES, 0),
}


def main() -> None:
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    for name, (settings, policy_ms) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            share, cpu = measured(Path(folder), settings, iterations, ENVS / ((STEP_MS + policy_ms) / 1000))
        print(f"{name:45} {share:.2f} of the ideal, {cpu:.0%} of a core", flush=True)


def measured(folder: Path, settings: list[str], iterations: int, ideal: float) -> tuple[float, float]:
    """The share of the ideal, and of one core."""
    run_dir = folder / "run"
    run = Run(folder, *settings, "iterations=1000000", f"run_dir={run_dir}")
    first = iterations // 3
    run.wait_for(lambda: rows(run_dir) >= first)
    players = [psutil.Process(p.pid) for p in processes_of(run_dir) if role_of(p) != "trainer"]
    before, began = sum(map(cpu_s, players)), len(read_metrics(run_dir / "metrics.csv"))
    run.wait_for(lambda: rows(run_dir) >= began + iterations - first)
    used_s = sum(map(cpu_s, players)) - before
    played = read_metrics(run_dir / "metrics.csv")[began:]
    run.kill()
    wall_s = sum(float(row["time/iteration_s"]) for row in played)
    return statistics.mean(float(row["env_steps_per_s"]) for row in played) / ideal, used_s / wall_s


def cpu_s(process: psutil.Process) -> float:
    """Of a living process; what has ended took none of it while this was measured."""
    return sum(process.cpu_times()[:2]) if process.is_running() else 0.0


if __name__ == "__main__":
    main()
