"""An environment of your own: walk to the goal on a grid. What such a class needs: mineonline/envs/own.py.

python -m mineonline.train env=own env._target_=examples.own_env.Walk +env.kwargs.size=8 policy=mlp objective.discount=0.95 iterations=60
"""  # noqa: E501 one command

import numpy as np

from mineonline import EnvSpec, Step, TensorSpec

MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])


class Walk:
    """N grids of `size` x `size`. The goal pays 1 and ends the episode; 4 x `size` steps cut it."""

    fps = 4

    @staticmethod
    def spec_of(size: int = 5) -> EnvSpec:
        return EnvSpec({"state": TensorSpec((4,), "float32")}, {"move": len(MOVES)}, statistics=("steps",))

    def __init__(self, num_envs: int, seed: int, first_index: int, size: int = 5):
        self.spec, self.num_envs, self.size = self.spec_of(size), num_envs, size
        self.waiting_N = np.zeros(num_envs, np.bool_)  # a new episode starts at once
        # a generator for each environment: what it plays depends on the seed and its global index, not on N
        self.random = [np.random.default_rng((seed, first_index + n)) for n in range(num_envs)]
        self.place, self.goal = np.zeros((2, num_envs, 2), np.int64)
        self.steps = np.zeros(num_envs, np.int64)

    def reset(self, which_N):
        for n in np.flatnonzero(which_N):
            self.place[n], self.goal[n] = self.random[n].integers(self.size, size=(2, 2))
        self.steps[which_N] = 0
        return self._observation()

    def step(self, action, active_N):
        self.place[active_N] = np.clip(self.place + MOVES[action["move"]], 0, self.size - 1)[active_N]
        self.steps += active_N
        there_N = active_N & (self.place == self.goal).all(1)
        return Step(
            observation=self._observation(),
            reward_N=there_N.astype(np.float32),
            terminated_N=there_N,
            truncated_N=active_N & ~there_N & (self.steps == 4 * self.size),
            crashed_N=np.zeros(self.num_envs, np.bool_),
            statistics_NK=self.steps[:, None].astype(np.float32),
        )

    def _observation(self):
        return {"state": np.concatenate([self.place, self.goal], 1).astype(np.float32) / self.size}

    def render(self, n):
        cells = np.zeros((self.size, self.size, 3), np.uint8)
        cells[tuple(self.goal[n])] = (0, 200, 0)
        cells[tuple(self.place[n])] = (250, 250, 250)
        return cells.repeat(40, 0).repeat(40, 1)

    def close(self):
        pass
