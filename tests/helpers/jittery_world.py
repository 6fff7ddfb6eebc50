"""The embedded world as if each of its environments were a game of its own, of uneven speed, for `env=own`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from mineonline.envs.synthetic import Waits
from mineonline.envs.tasks import Task
from mineonline.envs.world import WorldEnv

SIZE = (128, 128)


class JitteryWorld(WorldEnv):
    """A step takes `ms` longer, on average; `sigma`: of the logarithm of that time. Implements `AsyncVectorEnv`."""

    @staticmethod
    def spec_of(task: Mapping[str, Any], ms: float = 3.0, sigma: float = 0.5):
        return WorldEnv.spec_of(msgspec.convert(task, Task), SIZE)

    def __init__(self, num_envs: int, seed: int, first_index: int, task, ms: float = 3.0, sigma: float = 0.5) -> None:
        super().__init__(
            msgspec.convert(task, Task), num_envs=num_envs, image_size=SIZE, seed=seed, first_index=first_index,
            stagger=True,
        )  # fmt: skip
        self._mean_s, self._sigma = ms / 1000, sigma
        self._dice = np.random.default_rng((seed, first_index))
        self._waits = Waits(num_envs)
        self._chosen: dict[str, np.ndarray] = {}

    def send(self, action, which_N) -> None:
        for name, array in action.items():
            self._chosen.setdefault(name, array.copy())[which_N] = array[which_N]
        self._waits.begin(
            which_N, self._mean_s * self._dice.lognormal(-(self._sigma**2) / 2, self._sigma, which_N.sum())
        )

    def receive(self, at_least: int, timeout_s: float):
        answered_N = self._waits.answered(at_least, timeout_s)
        return answered_N, self.step(self._chosen, answered_N)
