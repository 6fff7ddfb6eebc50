"""Any environments as ones that play at their own pace: which of those that step have answered is drawn at random."""

import numpy as np


class OwnPace:
    """Implements `AsyncVectorEnv` on top of a `VectorEnv`."""

    def __init__(self, vector, seed=0):
        self.vector = vector
        self.spec, self.num_envs = vector.spec, vector.num_envs
        self.dice = np.random.default_rng(seed)
        self.stepping_N = np.zeros(self.num_envs, np.bool_)
        self.action = {}
        self.most_stepping = 0

    @property
    def waiting_N(self):
        return self.vector.waiting_N

    def reset(self, which_N):
        assert not (which_N & self.stepping_N).any()
        return self.vector.reset(which_N)

    def step(self, action, active_N):
        return self.vector.step(action, active_N)

    def send(self, action, which_N):
        assert not (which_N & (self.stepping_N | self.waiting_N)).any()
        for name, array in action.items():
            self.action.setdefault(name, array.copy())[which_N] = array[which_N]
        self.stepping_N |= which_N
        self.most_stepping = max(self.most_stepping, int(self.stepping_N.sum()))

    def receive(self, at_least, timeout_s):
        assert timeout_s >= 0
        stepping = np.flatnonzero(self.stepping_N)
        count = min(len(stepping), max(1, at_least) if self.dice.random() < 0.5 else 1)
        answered_N = np.zeros(self.num_envs, np.bool_)
        answered_N[self.dice.choice(stepping, count, replace=False) if count else []] = True
        self.stepping_N &= ~answered_N
        return answered_N, self.vector.step(self.action or self.nothing(), answered_N)

    def nothing(self):
        return {name: np.zeros(self.num_envs, np.int64) for name in self.spec.action}

    def close(self):
        self.vector.close()
