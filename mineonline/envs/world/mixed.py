"""The embedded world on several tasks. Axes: N worlds, K statistics of all tasks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import Action, EnvSpec, Observation, Step
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.world.env import WorldEnv


class MixedWorlds:
    """N worlds, each with a task of its own, or one for each episode. Implements `VectorEnv`.

    Each task has a `WorldEnv` with room for N worlds, of which it plays those whose turn at the task it is, in one
    call. So a world that keeps its task plays the same episodes as in a run with that task alone.
    """

    def __init__(
        self, mix: TaskMix, *, num_envs: int, image_size: tuple[int, int], seed: int, first_index: int = 0,
        stagger: bool = False,
    ) -> None:  # fmt: skip
        self.spec = self.spec_of(mix, image_size)
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._mix, self._seed, self._first_index = mix, seed, first_index
        self._episode_N = np.zeros(num_envs, np.int64)
        self._task_N = np.zeros(num_envs, np.int64)
        at_first = {mix.index_of(seed, first_index + n, 0) for n in range(num_envs)}
        self.parts = {
            k: WorldEnv(
                mix.tasks[k], num_envs=num_envs, image_size=image_size, seed=seed, first_index=first_index,
                stagger=stagger,
            )
            for k in sorted(at_first if mix.lasts == "run" else set(mix.turns))
        }  # fmt: skip
        """Index of a task -> its worlds, for the tasks that can be played here."""
        self._columns = {k: mix.columns(k) for k in self.parts}
        self._observation: Observation = {
            name: np.zeros((num_envs, *each.shape), each.dtype) for name, each in self.spec.observation.items()
        }
        self._statistics_NK = np.zeros((num_envs, len(self.spec.statistics)), np.float32)

    @staticmethod
    def spec_of(mix: TaskMix, image_size: tuple[int, int]) -> EnvSpec:
        """As `WorldEnv.spec_of`."""
        specs = [WorldEnv.spec_of(task, image_size) for task in mix.tasks]
        return mix.spec(specs[0])

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        for n in np.flatnonzero(which_N).tolist():
            self._task_N[n] = self._mix.index_of(self._seed, self._first_index + n, int(self._episode_N[n]))
            self._episode_N[n] += 1
        self._statistics_NK[which_N] = 0.0
        for k, part in self.parts.items():
            mine_N = which_N & (self._task_N == k)
            if mine_N.any():
                self._show(mine_N, part.reset(mine_N))
        self._observation.update(self._mix.told(self._task_N.copy()))
        return self._observation

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        reward_N = np.zeros(self.num_envs, np.float32)
        terminated_N, truncated_N, crashed_N = np.zeros((3, self.num_envs), np.bool_)
        for k, part in self.parts.items():
            mine_N = active_N & (self._task_N == k)
            if not mine_N.any():
                continue
            step = part.step(action, mine_N)
            reward_N += step.reward_N  # 0 and False in the worlds that were not active
            terminated_N |= step.terminated_N
            truncated_N |= step.truncated_N
            self._statistics_NK[np.ix_(mine_N, self._columns[k])] = step.statistics_NK[mine_N]
            self._show(mine_N, step.observation)
        return Step(
            observation=self._observation, reward_N=reward_N, terminated_N=terminated_N, truncated_N=truncated_N,
            crashed_N=crashed_N, statistics_NK=self._statistics_NK.copy(),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to free."""

    def _show(self, which_N: NDArray[np.bool_], observation: Observation) -> None:
        for name, array in observation.items():
            self._observation[name][which_N] = array[which_N]
