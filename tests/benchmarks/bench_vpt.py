"""What does a VPT policy cost? Seconds per iteration, and the memory of every process, in the real programs.

    python -m tests.benchmarks.bench_vpt [size] [key=value ...]

Two environments, fragments of 16 rows, one epoch, random weights; on the CPU, and on a GPU if there is one. Peak memory
is resident, without shared pages, as in bench_memory. The first iteration is not counted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from mineonline.run.metrics import read_metrics
from tests.benchmarks.bench_memory import role_of
from tests.helpers.programs import Run, processes_of

ITERATIONS = 5
EVERY_S = 0.2
SETTINGS = [
    "policy=vpt", "env.image_size=[128,128]", "collector.workers=1", "collector.envs_per_worker=2",
    "fragment.length=16", "buffer.fragments_per_iteration=2", "optimizer.context_length=8", "optimizer.minibatches=1",
    "optimizer.accumulate=4", "optimizer.epochs=1", "video.every=0", f"iterations={ITERATIONS}",
    f"checkpointing.every={ITERATIONS}",
]  # fmt: skip
DEVICES = {
    "cpu": ["trainer.accelerator=cpu", "collector.device=cpu"],
    "cuda": ["trainer.accelerator=gpu", "collector.device=cuda"],
}


def main() -> None:
    size, more = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("1x", [])
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        for reference in (0.0, 0.2):
            settings = [f"policy.size={size}", *DEVICES[device], f"reference.kl_coef={reference}", *more]
            with tempfile.TemporaryDirectory() as folder:
                measure(f"{size} on {device}, reference.kl_coef={reference}", settings, Path(folder))


def measure(title: str, settings: list[str], folder: Path) -> None:
    """Run to the end and print the figures."""
    run_dir = folder / "run"
    peaks: dict[str, float] = {}
    run = Run(folder, *SETTINGS, *settings, f"run_dir={run_dir}")
    try:
        while run.process.poll() is None:
            for process in processes_of(run_dir):
                try:
                    used, role = process.memory_info(), role_of(process)
                except psutil.NoSuchProcess:
                    continue
                peaks[role] = max(peaks.get(role, 0.0), (used.rss - used.shared) / 1e6)
            time.sleep(EVERY_S)
        if run.process.returncode != 0:
            raise SystemExit(run.output)
    finally:
        run.kill()
    rows = read_metrics(run_dir / "metrics.csv")[1:]
    seconds = [float(row["time/iteration_s"]) for row in rows]
    waits = sum(float(row["time/learner_waits"]) for row in rows) / len(rows)
    print(
        f"{title}: {sum(seconds) / len(seconds):.1f} s per iteration of 32 decisions ({min(seconds):.1f} to "
        f"{max(seconds):.1f}), the learner waits {waits:.0%}; peak MB "
        + ", ".join(f"{role} {peak:.0f}" for role, peak in sorted(peaks.items())),
        flush=True,
    )


if __name__ == "__main__":
    main()
