"""Gymnasium environments with all kinds of spaces, for `env.id=tests.helpers.space_envs:<name>`."""

from __future__ import annotations

import gymnasium
import numpy as np
from gymnasium import spaces


class Mixed(gymnasium.Env):
    """Episodes of one step, whose best action depends on two parts of the observation; the highest reward is 4.

    `kind` is a Discrete, or with `picture` the side of a channels-first picture that is lit.
    """

    action_space = spaces.Dict(
        {
            "arm": spaces.Box(np.array([-1, 0], np.float32), np.array([1, 10], np.float32)),
            "grip": spaces.Discrete(2, start=5),
            "keys": spaces.Tuple([spaces.MultiBinary(1), spaces.MultiDiscrete([2])]),
        }
    )

    def __init__(self, picture=False):
        kind = spaces.Box(0, 255, (3, 36, 40), np.uint8) if picture else spaces.Discrete(2, start=3)
        # the names of other things too: nothing may mix them up
        self.observation_space = spaces.Dict(
            {"grip": kind, "reward": spaces.Dict({"level": spaces.Box(-1, 1, (), np.float32)})}
        )
        self.picture = picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.kind = int(self.np_random.integers(2))
        self.level = self.np_random.uniform(-1, 1)
        return self._observation(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        arm, grip, (binary, discrete) = action["arm"], action["grip"], action["keys"]
        wanted = 2 + 6 * self.kind
        reward = 2 - abs(arm[0] - self.level) - abs(arm[1] - wanted) / 5
        reward += (grip - 5 == self.kind) + 0.5 * (binary[0] == 1) + 0.5 * (discrete[0] == self.kind)
        return self._observation(), float(reward), True, False, {}

    def _observation(self):
        kind = 3 + self.kind
        if self.picture:
            kind = np.zeros((3, 36, 40), np.uint8)
            kind[:, :, 20 * self.kind : 20 * self.kind + 20] = 255
        return {"grip": kind, "reward": {"level": np.array(self.level, np.float32)}}


class Target(gymnasium.Env):
    """Episodes of one step: the reward is minus the squared distance of a number in -10..20 from 13, in tens."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-10, 20, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), -(float((action[0] - 13) / 10) ** 2), True, False, {}


class Given(gymnasium.Env):
    """Has the spaces that it is given; shows samples of one, and notes the actions that it gets."""

    def __init__(self, observation_space, action_space=None):
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(2) if action_space is None else action_space
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.last = self.observation_space.sample()
        return self.last, {}

    def step(self, action):
        self.actions.append(action)
        self.last = self.observation_space.sample()
        return self.last, 0.0, False, False, {}


for env in (Mixed, Target, Given):
    gymnasium.register(f"{env.__name__}-v0", entry_point=env)
