"""An environment that does nothing, as fast as possible, for measuring all the rest."""

from __future__ import annotations

import numpy as np

from mineonline import EnvSpec, Step, TensorSpec


class Idle:
    @staticmethod
    def spec_of() -> EnvSpec:
        return EnvSpec({"state": TensorSpec((1,), "float32")}, {"action": 2})

    def __init__(self, num_envs: int, seed: int, first_index: int):
        self.spec, self.num_envs = self.spec_of(), num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._observation = {"state": np.zeros((num_envs, 1), np.float32)}
        none_N = np.zeros(num_envs, np.bool_)
        self._step = Step(
            observation=self._observation, reward_N=np.zeros(num_envs, np.float32), terminated_N=none_N,
            truncated_N=none_N, crashed_N=none_N, statistics_NK=np.zeros((num_envs, 0), np.float32),
        )  # fmt: skip

    def reset(self, which_N):
        return self._observation

    def step(self, action, active_N):
        return self._step

    def close(self):
        pass
