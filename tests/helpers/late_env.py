"""An environment whose episodes start late, as Minecraft's do: environment n waits for 20 n calls before each."""

from __future__ import annotations

import numpy as np

from mineonline import EnvSpec, Step, TensorSpec


class Late:
    @staticmethod
    def spec_of() -> EnvSpec:
        return EnvSpec({"state": TensorSpec((1,), "float32")}, {"action": 2})

    def __init__(self, num_envs: int, seed: int, first_index: int):
        self.spec, self.num_envs = self.spec_of(), num_envs
        self.calls_left = np.zeros(num_envs, np.int64)
        self.steps = np.zeros(num_envs, np.int64)

    @property
    def waiting_N(self):
        return self.calls_left > 0

    def reset(self, which_N):
        self.calls_left[which_N] = 20 * np.arange(self.num_envs)[which_N]
        self.steps[which_N] = 0
        return self._observation()

    def step(self, action, active_N):
        self.calls_left[self.calls_left > 0] -= 1
        self.steps += active_N
        none_N = np.zeros(self.num_envs, np.bool_)
        return Step(
            observation=self._observation(), reward_N=active_N.astype(np.float32), terminated_N=none_N,
            truncated_N=active_N & (self.steps == 50), crashed_N=none_N,
            statistics_NK=np.zeros((self.num_envs, 0), np.float32),
        )  # fmt: skip

    def _observation(self):
        return {"state": self.steps[:, None].astype(np.float32)}

    def close(self):
        pass
