"""A gymnasium environment that draws without further packages: `env.id=tests.helpers.drawn_env:Drawn-v0`."""

import gymnasium
import numpy as np


class Drawn(gymnasium.Env):
    """Pays 1 per step for `length` steps; with length 0, for 1 to 40 steps, as the seed decides."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 gymnasium's way
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, length=0, render_mode=None):
        self.length = length
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.remaining = self.length or int(self.np_random.integers(1, 41))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.remaining -= 1
        return np.full(2, 0.5, np.float32), 1.0, self.remaining == 0, False, {}

    def render(self):
        return np.full((211, 321, 3), 40, np.uint8)


class Blind(Drawn):
    """Draws nothing."""

    metadata = {"render_modes": ["human"]}  # noqa: RUF012


gymnasium.register("Drawn-v0", Drawn)
gymnasium.register("Blind-v0", Blind)
