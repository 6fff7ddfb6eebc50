"""What does a policy cost? FLOP, and CPU seconds, of a row: where it acts, and where it is learnt from.

    python -m tests.benchmarks.bench_policy [tiny mini 1x 2x 3x]

FLOP are those of matrix products and convolutions (torch.utils.flop_counter), counted without computing anything. A
backward pass is taken as two forward passes; `counted` is what a whole iteration of the learner really did. CPU time is
that of one thread: a worker's `Player` on env=synthetic, and whole iterations under Lightning.
"""

from __future__ import annotations

import logging
import math
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mineonline.envs.build import build_env, env_spec
from mineonline.experience.rollout import Player, RolloutSettings
from mineonline.fragment import Fragments
from mineonline.policies.build import build_actor
from mineonline.run.collector import rollout_settings
from mineonline.run.learner import build_learner
from mineonline.settings.config import Config
from tests.benchmarks.plan import PolicyCost
from tests.helpers.fit import fit, fresh
from tests.helpers.settings import config_of

SIZES = ("tiny", "mini", "1x", "2x", "3x")
CPU_ROWS = {"tiny": (512, 2048), "mini": (32, 128), "1x": (8, 16)}
"""Few rows and many, that the learner is measured with. What is not here takes too long, or too much memory, without a
GPU."""
CPU_EPOCHS = {"tiny": (1, 8), "mini": (1, 3), "1x": (1, 3)}
_BYTES_PER_PARAMETER = 24
"""Memory of a learner: weights, gradient, AdamW's two moments, and room."""
_FAKE = FakeTensorMode()  # one for all policies: MineStudio keeps attention masks between them


def main() -> None:
    quiet()
    for size in sys.argv[1:] or SIZES:
        cost = sizes_of(size)
        print(
            f"{size}: {cost.parameters / 1e6:.1f} M parameters, {cost.flop / 1e9:.4f} GFLOP per row, fragments of "
            f"{(cost.memory_bytes + 64 * cost.row_bytes) / 1e6:.2f} MB",
            flush=True,
        )
        rows = CPU_ROWS.get(size)
        if rows is None or cost.parameters * _BYTES_PER_PARAMETER > psutil.virtual_memory().available:
            print("    not measured on this CPU")
            continue
        for envs in (1, 4, 16):
            seconds = decide_s(size, envs)
            print(
                f"    a worker's row, {envs} environments: {seconds / envs * 1e3:.3f} CPU ms, "
                f"{cost.flop * envs / seconds / 1e9:.1f} GFLOP/s",
                flush=True,
            )
        for epochs in CPU_EPOCHS[size]:
            for count in rows:
                seconds = learn_s(size, count, epochs)
                flop = count * cost.flop * (1 + 3 * epochs)
                print(
                    f"    an iteration on {count} rows, epochs={epochs}: {seconds:.2f} CPU s, "
                    f"{seconds / count * 1e3:.3f} ms per row, {flop / seconds / 1e9:.1f} GFLOP/s",
                    flush=True,
                )
        with FlopCounterMode(display=False) as counter:
            learn_s(size, rows[0], 1, iterations=1)
        counted = counter.get_total_flops() / (rows[0] * cost.flop * 4)
        print(
            f"    counted in an iteration with epochs=1: {counted:.2f} of (first pass + 3) x FLOP per row", flush=True
        )


def quiet() -> None:
    """One thread, and nothing from Lightning."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def config_for(size: str, *overrides: str) -> Config:
    """A run on env=synthetic, with pictures of the size that the policy takes."""
    policy = [] if size == "tiny" else ["policy=vpt", f"policy.size={size}", "env.image_size=[128,128]"]
    return config_of("env=synthetic", *policy, *overrides)


def sizes_of(size: str) -> PolicyCost:
    """What can be known without running the policy."""
    config = config_for(size)
    spec = env_spec(config.env, config.task)
    # a tiny one cannot be faked (its convolutions change their memory format), and costs nothing
    with nullcontext() if size == "tiny" else _FAKE, torch.no_grad(), FlopCounterMode(display=False) as counter:
        actor = build_actor(config, spec)
        policy = actor.policy
        shape = spec.observation["image"].shape
        policy({"image": torch.zeros((1, 64, *shape), dtype=torch.uint8)}, torch.zeros((1, 64), dtype=torch.bool),
               policy.initial_memory(1))  # fmt: skip
    fields = actor.schema(spec, 64)
    memory = sum(field.nbytes for field in fields if field.name.startswith("memory."))
    return PolicyCost(
        parameters=sum(tensor.numel() for tensor in policy.state_dict().values()),
        row_bytes=(sum(field.nbytes for field in fields) - memory) / 64, memory_bytes=memory,
        flop=counter.get_total_flops() / 64,
    )  # fmt: skip


def measured(size: str) -> PolicyCost | None:
    """With CPU seconds; None if they cannot be measured here."""
    cost, rows = sizes_of(size), CPU_ROWS.get(size)
    if rows is None or cost.parameters * _BYTES_PER_PARAMETER > psutil.virtual_memory().available:
        return None
    few = 2 if size in ("tiny", "mini") else 1
    cost.decide_call_s, cost.decide_row_s = _line({envs: decide_s(size, envs) for envs in (few, 8 * few)})
    lines = {epochs: _line({count: learn_s(size, count, epochs) for count in rows}) for epochs in CPU_EPOCHS[size]}
    most = max(lines)
    cost.step_s = lines[most][0] / (most * _minibatches(size))
    cost.first_pass_s, cost.epoch_s = _line({epochs: per_row for epochs, (_, per_row) in lines.items()})
    return cost


def _line(points: dict[int, float]) -> tuple[float, float]:
    """Where the line through two points starts, at least at 0, and how it rises."""
    (x0, y0), (x1, y1) = points.items()
    slope = max(0.0, min((y1 - y0) / (x1 - x0), y1 / x1))
    return y1 - slope * x1, slope


def decide_s(size: str, envs: int) -> float:
    """CPU seconds of one decision of all of a worker's environments; the median of several rollouts."""
    config = config_for(size, f"collector.envs_per_worker={envs}", "fragment.length=8")
    player = _player(config)
    player.play()
    seconds, until = [], time.monotonic() + 2.0
    while time.monotonic() < until or len(seconds) < 3:
        began = time.thread_time()
        player.play()
        seconds.append(time.thread_time() - began)
    return statistics.median(seconds) / config.fragment.length


def _player(config: Config) -> Player:
    spec = env_spec(config.env, config.task)
    envs = config.collector.envs_per_worker
    env = build_env(config.env, config.task, seed=0, num_envs=envs, first_index=0)
    settings: RolloutSettings = rollout_settings(config, spec, first_env=0, collector_log=None, asynchronous=False)
    return Player(env, env.reset(np.ones(envs, np.bool_)), build_actor(config, spec), settings, first_env=0)


def _length(size: str) -> int:
    """Rows of the fragments that the learner is measured with."""
    return 64 if size == "tiny" else 8


def _minibatches(size: str) -> int:
    """Optimiser steps of an epoch, for few rows and for many."""
    return math.gcd(4, CPU_ROWS[size][0] // _length(size))


def learn_s(size: str, rows: int, epochs: int, *, iterations: int | None = None) -> float:
    """CPU seconds of an iteration of the learner.

    The median, without the first; of few iterations where they take long.
    """
    length, usual = _length(size), 9 if size == "tiny" else 3
    config = config_for(
        size, f"fragment.length={length}", f"collector.envs_per_worker={rows // length}",
        f"optimizer.epochs={epochs}", f"optimizer.minibatches={_minibatches(size)}",
    )  # fmt: skip
    player = _player(config)
    player.play()
    fragments = Fragments.from_named_tensors(
        {name: tensor for name, tensor in player.tensors.items() if not name.startswith("report.")}
    )
    clocks = []

    def take():
        clocks.append(time.thread_time())
        return fresh(fragments)

    with tempfile.TemporaryDirectory() as folder:
        learner = build_learner(config, env_spec(config.env, config.task), bad_batch_file=Path(folder) / "bad.pt")
        fit(learner, take, iterations or usual, Path(folder))
    return float(np.median(np.diff(clocks)[1:])) if len(clocks) > 2 else 0.0


if __name__ == "__main__":
    main()
