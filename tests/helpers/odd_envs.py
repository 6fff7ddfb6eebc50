"""Environments that misbehave, for `env.id=tests.helpers.odd_envs:<name>`."""

from __future__ import annotations

import ctypes
import multiprocessing
import subprocess
import time

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from examples.own_env import Walk


class _Counting(gymnasium.Env):
    """Counts its steps, which it shows; episodes end after 10. Misbehaves at its step `at`."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, at=40):
        self.steps = 0
        self.at = at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        if self.steps == self.at:
            self.misbehave()
        return self.shown(), 1.0, self.steps % 10 == 0, False, {}

    def shown(self):
        return np.full(2, self.steps, np.float32)

    def misbehave(self):
        raise NotImplementedError


class Stuck(_Counting):
    """In C code that no signal interrupts."""

    def misbehave(self):
        libc = ctypes.CDLL(None)
        mutex = ctypes.create_string_buffer(64)
        libc.pthread_mutex_init(mutex, None)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)


class NeverPlays(_Counting):
    def __init__(self):
        super().__init__(at=1)

    def misbehave(self):
        raise RuntimeError("the sky has fallen on this environment")


class StartsSlowly(_Counting):
    def __init__(self):
        super().__init__()
        time.sleep(0.4)


class FailsInTheSecondWorker(_Counting):
    """Starts in the first worker of a collector only."""

    def __init__(self):
        super().__init__()
        if multiprocessing.current_process().name.endswith("-2"):
            raise ValueError("no sword left for the second worker")


class Faulty(_Counting):
    """Has the fault `kind`, at its step `at`; `random`: one of all kinds at every 40th step on average."""

    KINDS = ("raises", "exits", "hangs", "spins", "nan", "inf", "reward", "shape", "kind", "few", "reset")

    def __init__(self, kind="raises", at=4, random=False):
        super().__init__(at=0 if random else at)
        self.kind = kind
        self.random = random
        self.closed = False

    def reset(self, *, seed=None, options=None):
        first = super().reset(seed=seed)
        if self.kind == "reset" and self.at and self.steps >= self.at:
            raise FileNotFoundError("the level is gone")
        return first

    def step(self, action):
        if self.random and self.np_random.random() < 0.025:
            self.kind, self.at = self.np_random.choice(self.KINDS), self.steps + 1
        observation, reward, *rest = super().step(action)
        if self.steps != self.at:
            return observation, reward, *rest
        return {
            "nan": (np.array([0, np.nan], np.float32), reward, *rest),
            "inf": (np.array([np.inf, 0], np.float32), reward, *rest),
            "reward": (observation, float("nan"), *rest),
            "shape": (observation[:1], reward, *rest),
            "kind": (np.array(["a", "b"]), reward, *rest),
            "few": (observation, reward),
            "reset": (observation, reward, True, False, {}),
        }[self.kind]

    def misbehave(self):
        if self.kind == "raises":
            raise KeyError("sword")
        if self.kind == "exits":
            raise SystemExit(3)
        if self.kind == "hangs":
            time.sleep(3600)
        while self.kind == "spins":
            try:
                sum(range(100))
            except Exception:  # noqa: BLE001 an environment that cannot be stopped by an exception
                continue

    def close(self):
        if self.kind == "raises":
            raise OSError("the window is already closed")


class BadLevels(_Counting):
    """Shows its level, which is drawn from the seed. Every other level cannot be played."""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = int(self.np_random.integers(1000)) * 10
        if self.steps % 20:
            raise ValueError("this level has no ground")
        return self.shown(), {}


class StartsAProgram(_Counting):
    """Starts a program, whose process id it shows, and ends it when it is closed. Hangs at step `at`.

    `talks`: characters that it prints at each step.
    """

    def __init__(self, at=0, talks=0):
        super().__init__(at)
        self.talks = talks
        self._program = subprocess.Popen(["sleep", "3600"])

    def shown(self):
        return np.array([self._program.pid, self.steps], np.float32)

    def step(self, action):
        print("x" * self.talks)
        return super().step(action)

    def misbehave(self):
        time.sleep(3600)

    def close(self):
        self._program.kill()
        self._program.wait()


class Sleeps(_Counting):
    """Takes `ms` for a step, on average; `sigma`: of the logarithm of that time. Episodes do not end."""

    def __init__(self, ms=25, sigma=0.0):
        super().__init__(at=0)
        self.ms, self.sigma = ms, sigma
        self._draw = np.random.default_rng()

    def step(self, action):
        time.sleep(self.ms / 1000 * self._draw.lognormal(-(self.sigma**2) / 2, self.sigma))
        self.steps += 1
        return self.shown(), 1.0, False, False, {}


class SleepyCartPole(CartPoleEnv):
    """A CartPole whose step takes `ms` on average; `sigma`: of the logarithm of that time."""

    def __init__(self, ms=3, sigma=0.5):
        super().__init__()
        self._sleep = Sleeps(ms, sigma)

    def step(self, action):
        self._sleep.step(0)
        return super().step(action)


class Falls(Walk):
    """Many environments in one class (`env=own`), which raises in their hundredth step."""

    def step(self, action, active_N):
        self.all_steps = getattr(self, "all_steps", 0) + 1
        if self.all_steps == 100:
            raise ValueError("the floor is gone\nand so is the ceiling")
        return super().step(action, active_N)


for env in (Sleeps, Stuck, NeverPlays, StartsSlowly, FailsInTheSecondWorker, Faulty, BadLevels, StartsAProgram):
    gymnasium.register(f"{env.__name__}-v0", entry_point=env)
gymnasium.register("SleepyCartPole-v0", entry_point=SleepyCartPole, max_episode_steps=500)
