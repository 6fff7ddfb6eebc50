"""What MineStudio's simulator costs: one `MinecraftSim` in this process, and N behind the contract, on our stand-in.

    python -m tests.benchmarks.bench_minestudio [simulators] [seconds] [rounds]

Prints ticks per second of both in turn, and their ratio. The environment plays `hunt_cow` with random actions, 4 ticks
per decision, without resets. The published speed of the real engine is 38 to 45 ticks per second.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mineonline.envs.minestudio.env import MineStudioEnv
from mineonline.envs.minestudio.java import SIMULATOR
from mineonline.envs.minestudio.simulator_process import surroundings
from mineonline.envs.settings import MineStudioEnvConfig
from tests.helpers.settings import config_of

SIZE = (128, 128)
SETTINGS = MineStudioEnvConfig(
    engine="world", image_size=SIZE, render_size=SIZE, host_starts=4, start_timeout_s=120, step_timeout_s=30,
    restart_interval_s=0, max_fast_resets=0, max_failures=3,
)  # fmt: skip


def bare_simulator(folder: Path):
    """MineStudio's own simulator, as its users step it."""
    os.environ.update(surroundings(SETTINGS, folder))
    os.environ[SIMULATOR] = str(os.getpid())
    from mineonline.envs.minestudio.package import restore_numpy_names

    restore_numpy_names()
    from minestudio.simulator import MinecraftSim

    simulator = MinecraftSim(obs_size=SIZE, render_size=SIZE, preferred_spawn_biome="plains")
    simulator.reset()
    return simulator


def bare_rate(simulator, seconds: float, random) -> float:
    began, ticks = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        simulator.step({"buttons": random.integers(0, 8640, 1), "camera": random.integers(0, 121, 1)})
        ticks += 1
    return ticks / (time.monotonic() - began)


def our_rate(env: MineStudioEnv, seconds: float, random) -> float:
    n = env.num_envs
    while env.waiting_N.any():
        env.step({"buttons": np.zeros(n, np.int64), "camera": np.full(n, 60)}, np.zeros(n, np.bool_))
    began, ticks = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        action = {"buttons": random.integers(0, 8640, n), "camera": random.integers(0, 121, n)}
        step = env.step(action, ~env.waiting_N)
        assert not step.crashed_N.any()
        ticks += 4 * n
    return ticks / (time.monotonic() - began)


def main() -> None:
    simulators, seconds, rounds = (int(word) for word in (*sys.argv[1:], *("1", "5", "3")[len(sys.argv) - 1 :]))
    task = config_of("task=hunt_cow", "task.time_limit_ticks=1000000").task
    env = MineStudioEnv(SETTINGS, task, num_envs=simulators, seed=0)
    env.reset(np.ones(simulators, np.bool_))
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_simulator(Path(folder))
        for _ in range(rounds):
            theirs, ours = bare_rate(bare, seconds, random), our_rate(env, seconds, random)
            print(
                f"MinecraftSim {theirs:.0f} ticks/s, {simulators} behind the contract {ours:.0f}: {ours / theirs:.2f}"
            )
        env.close()
        bare.close()


if __name__ == "__main__":
    main()
