"""Two tasks that look alike: only who is told which one is played can do both."""

import numpy as np

from mineonline import EnvSpec, Step, TensorSpec

DECISIONS = 8


class TwoTasks:
    """Environment i plays task i % 2, in which action i % 2 pays 1 and the other nothing. All see the same picture."""

    @staticmethod
    def spec_of():
        return EnvSpec(
            {"image": TensorSpec((36, 36, 1), "uint8"), "task": TensorSpec((), "int64")}, {"action": 2},
            statistics=("zeros", "ones"), tasks={"zero": ("zeros",), "one": ("ones",)},
        )  # fmt: skip

    def __init__(self, num_envs, seed, first_index):
        self.spec, self.num_envs = self.spec_of(), num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.task_N = (first_index + np.arange(num_envs)) % 2
        self.step_N = np.zeros(num_envs, np.int64)
        self.right_NK = np.zeros((num_envs, 2), np.float32)

    def reset(self, which_N):
        self.step_N[which_N], self.right_NK[which_N] = 0, 0
        return self._observation()

    def step(self, action, active_N):
        right_N = active_N & (action["action"] == self.task_N)
        self.right_NK[np.arange(self.num_envs), self.task_N] += right_N
        self.step_N += active_N
        none_N = np.zeros(self.num_envs, np.bool_)
        return Step(
            observation=self._observation(), reward_N=right_N.astype(np.float32),
            terminated_N=active_N & (self.step_N == DECISIONS), truncated_N=none_N, crashed_N=none_N,
            statistics_NK=self.right_NK.copy(),
        )  # fmt: skip

    def _observation(self):
        return {"image": np.full((self.num_envs, 36, 36, 1), 128, np.uint8), "task": self.task_N}

    def close(self):
        pass
