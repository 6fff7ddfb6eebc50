"""A game of ten decisions in which each decision has its own best arm."""

import gymnasium
import numpy as np

STEPS = 10
ARMS = 4


class Bandit(gymnasium.Env):
    """Arm `step % 4` pays `scale`, the others nothing; the observation says which step it is."""

    observation_space = gymnasium.spaces.Box(0, 1, (STEPS,), np.float32)
    action_space = gymnasium.spaces.Discrete(ARMS)

    def __init__(self, scale: float = 1.0):
        self._scale = scale

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._step = 0
        return self._observe(), {}

    def step(self, action):
        reward = self._scale * float(action == self._step % ARMS)
        self._step += 1
        return self._observe(), reward, self._step == STEPS, False, {}

    def _observe(self):
        return np.eye(STEPS + 1, STEPS, dtype=np.float32)[self._step]


gymnasium.register("Bandit-v0", Bandit)
