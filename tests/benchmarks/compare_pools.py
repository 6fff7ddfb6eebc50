"""Would a library's pool of environments do? Games that sleep, a process each, with random actions and no learner.

    python -m tests.benchmarks.compare_pools [seconds for each]

16 games whose step takes 25 ms on average: steps per second as a share of the ideal 640, and what the process that
steps them, with its children's own work left out, spends on each step. Our pool and torchrl's hand out new actions as
soon as 4 games have answered; gymnasium's and stable-baselines3's wait for all of them.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import gymnasium
import numpy as np

from mineonline.envs.gym_pool import GymPool
from mineonline.envs.settings import GymEnvConfig

N, STEP_MS, AT_LEAST = 16, 25.0, 4
GAME = "tests.helpers.odd_envs:Sleeps-v0"


def ours(sigma: float, seconds: float) -> tuple[int, float]:
    """Steps, and CPU seconds of this process; both while `seconds` pass."""
    config = GymEnvConfig(id=GAME, kwargs={"ms": STEP_MS, "sigma": sigma}, step_timeout_s=60, max_failures=3)
    pool = GymPool(config, num_envs=N, seed=0)
    pool.reset(np.ones(N, np.bool_))
    while pool.waiting_N.any():
        pool.receive(N, 1.0)
    action = {"action": np.zeros(N, np.int64)}
    which_N = np.ones(N, np.bool_)
    steps = 0

    def turn() -> None:
        nonlocal steps, which_N
        pool.send(action, which_N)
        which_N, _ = pool.receive(AT_LEAST, 1.0)
        steps += int(which_N.sum())

    return timed(turn, seconds, lambda: steps, pool.close)


def torchrls(sigma: float, seconds: float) -> tuple[int, float]:
    from torchrl.envs import AsyncEnvPool, GymEnv

    make = partial(GymEnv, GAME, ms=STEP_MS, sigma=sigma, categorical_action_encoding=True)
    pool = AsyncEnvPool([make] * N, backend="multiprocessing", exchange="shm", stack="dense")
    pool.async_reset_send(None, env_index=list(range(N)))
    current = pool.async_reset_recv(min_get=N)
    steps = 0

    def turn() -> None:
        nonlocal steps, current
        current["action"] = pool.action_spec.zero()[: len(current)].clone()
        pool.async_step_and_maybe_reset_send(current)
        _, current = pool.async_step_and_maybe_reset_recv(min_get=AT_LEAST)
        steps += len(current)

    return timed(turn, seconds, lambda: steps, pool.close)


def gymnasiums(sigma: float, seconds: float) -> tuple[int, float]:
    make = partial(gymnasium.make, GAME, ms=STEP_MS, sigma=sigma)
    vector = gymnasium.vector.AsyncVectorEnv([make] * N, shared_memory=True)
    vector.reset()
    return _together(lambda: vector.step(np.zeros(N, np.int64)), seconds, vector.close)


def stable_baselines3s(sigma: float, seconds: float) -> tuple[int, float]:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    vector = SubprocVecEnv([partial(gymnasium.make, GAME, ms=STEP_MS, sigma=sigma)] * N)
    vector.reset()
    return _together(lambda: vector.step(np.zeros(N, np.int64)), seconds, vector.close)


def _together(step: Callable[[], object], seconds: float, close: Callable[[], object]) -> tuple[int, float]:
    steps = 0

    def turn() -> None:
        nonlocal steps
        step()
        steps += N

    return timed(turn, seconds, lambda: steps, close)


def timed(
    turn: Callable[[], None], seconds: float, done: Callable[[], int], close: Callable[[], object]
) -> tuple[int, float]:
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        turn()
    steps, cpu_s, until = done(), time.process_time(), time.monotonic() + seconds
    while time.monotonic() < until:
        turn()
    found = done() - steps, time.process_time() - cpu_s
    close()
    return found


POOLS = {"ours": ours, "torchrl": torchrls, "gymnasium": gymnasiums, "stable-baselines3": stable_baselines3s}


def main() -> None:
    warnings.simplefilter("ignore")
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    ideal = N / STEP_MS * 1000
    for sigma in (0.0, 0.5, 1.0):
        for name, pool in POOLS.items():
            try:
                steps, cpu_s = pool(sigma, seconds)
            except ImportError:
                print(f"{name}: not installed")
                continue
            print(
                f"sigma {sigma:g}, {name:18} {steps / seconds / ideal:.2f} of the ideal, {cpu_s / steps * 1e3:.2f} CPU "
                "ms a step",
                flush=True,
            )


if __name__ == "__main__":
    main()
