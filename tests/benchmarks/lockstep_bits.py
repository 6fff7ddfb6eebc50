"""The bits of three lockstep runs: a refactoring must not change them.

    python -m tests.benchmarks.lockstep_bits

Prints, per run, a hash of the weights after six iterations and one of all metrics that are not times. Compare the lines
before and after a change, on the same machine with the same packages: other processors round differently.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from mineonline.run.metrics import read_metrics
from tests.helpers.settings import CARTPOLE, ROOT

LOCKSTEP = [
    "collector.mode=lockstep", "seed=0", "torch_threads=1", "video.every=0", "iterations=6", "collector.workers=2",
]  # fmt: skip
RUNS = {
    "world": ["collector.envs_per_worker=4", "fragment.length=32", "buffer.fragments_per_iteration=8"],
    "world, GRU, reference, V-trace, PopArt": [
        "collector.envs_per_worker=2", "fragment.length=16", "buffer.fragments_per_iteration=4", "policy.memory=gru",
        "env.image_size=[40,36]", "task.time_limit_ticks=40", "reference.kl_coef=0.1", "objective.kind=vtrace",
        "objective.normalize_value=true", "optimizer.context_length=8", "optimizer.accumulate=2",
    ],
    "CartPole": [
        *CARTPOLE, "collector.envs_per_worker=2", "fragment.length=16", "buffer.fragments_per_iteration=8",
    ],
}  # fmt: skip


def weights_hash(run_dir: Path) -> str:
    """Of every tensor of the learner, with its name."""
    state = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


def metrics_hash(run_dir: Path) -> str:
    """Of all columns but those that measure time."""
    rows = [
        {name: value for name, value in row.items() if not name.startswith("time/") and name != "env_steps_per_s"}
        for row in read_metrics(run_dir / "metrics.csv")
    ]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(RUNS.items()):
            run_dir = Path(folder) / str(number)
            command = [sys.executable, "-m", "mineonline.train", *LOCKSTEP, *settings, f"run_dir={run_dir}"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=True, timeout=600)
            print(f"{name:40} weights {weights_hash(run_dir)}  metrics {metrics_hash(run_dir)}", flush=True)


if __name__ == "__main__":
    main()
