"""Environments that misbehave, for `env.id=tests.helpers.odd_envs:<name>`."""

from __future__ import annotations

import multiprocessing
import time

import gymnasium
import numpy as np


class _Counting(gymnasium.Env):
    """Counts its steps; misbehaves at step 40 of its process."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            self.misbehave()
        return np.zeros(2, np.float32), 1.0, self.steps % 10 == 0, False, {}

    def misbehave(self):
        raise NotImplementedError


class Hanging(_Counting):
    def misbehave(self):
        time.sleep(3600)


class Raising(_Counting):
    def misbehave(self):
        raise RuntimeError("the sky has fallen on this environment")


class FailsInTheSecondWorker(_Counting):
    """Starts in the first worker of a collector only."""

    def __init__(self):
        super().__init__()
        if multiprocessing.current_process().name.endswith("-2"):
            raise ValueError("no sword left for the second worker")


gymnasium.register("FailsInTheSecondWorker-v0", entry_point=FailsInTheSecondWorker)
gymnasium.register("Hanging-v0", entry_point=Hanging)
gymnasium.register("Raising-v0", entry_point=Raising)
