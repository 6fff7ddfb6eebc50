"""A gymnasium environment that only memory solves: `env=gym env.id=tests.helpers.recall_env:Recall-v0`."""

from __future__ import annotations

import gymnasium
import numpy as np

LONGEST_DELAY = 12
"""Most pictures between the cue and the question."""


class Recall(gymnasium.Env):
    """The cue in the first picture, left or right, must be given as the answer in the last; reward +1 or -1.

    In between are 0 to LONGEST_DELAY empty pictures, as the seed decides, where actions do nothing. The question looks
    the same after both cues: a policy without memory has an expected return of 0.
    """

    observation_space = gymnasium.spaces.Box(0, 255, (36, 36, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue = int(self.np_random.integers(2))
        self.delay = int(self.np_random.integers(LONGEST_DELAY + 1))
        self.row = 0
        return self._picture(), {}

    def step(self, action):
        asked = self.row == self.delay + 1
        self.row += 1
        reward = (1.0 if action == self.cue else -1.0) if asked else 0.0
        return self._picture(), reward, asked, False, {}

    def _picture(self):
        picture = np.zeros(self.observation_space.shape, np.uint8)
        if self.row == 0:
            picture[:, 18 * self.cue : 18 * (self.cue + 1)] = 255
        elif self.row == self.delay + 1:
            picture[..., 1] = 255
        return picture


gymnasium.register("Recall-v0", entry_point=Recall)
