"""An environment of your own whose games take their time: each plays at its own pace, here in a thread of its own.

python -m mineonline.train env=own env._target_=examples.own_pace.PacedWalk policy=mlp objective.discount=0.95 iterations=60
"""  # noqa: E501 one command

import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import numpy as np

from examples.own_env import Walk
from mineonline import Step


class PacedWalk:
    """N grids, of which each takes 10 ms on average to make a step. A game behind a network waits no differently."""

    spec_of = staticmethod(Walk.spec_of)

    def __init__(self, num_envs: int, seed: int, first_index: int, size: int = 5):
        self.spec, self.num_envs = self.spec_of(size), num_envs
        self.games = [Walk(1, seed, first_index + n, size) for n in range(num_envs)]
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.state = np.zeros((num_envs, 4), np.float32)
        self.threads, self.stepping = ThreadPoolExecutor(num_envs), {}

    def reset(self, which_N):
        for n in np.flatnonzero(which_N):
            self.state[n] = self.games[n].reset(np.ones(1, np.bool_))["state"][0]
        return {"state": self.state}

    def send(self, action, which_N):
        for n in np.flatnonzero(which_N):
            self.stepping[self.threads.submit(self._step, n, action["move"][n : n + 1])] = n

    def receive(self, at_least, timeout_s):
        until, done = time.monotonic() + timeout_s, set()
        while len(done) < min(at_least, len(self.stepping)) and (left_s := until - time.monotonic()) > 0:
            done |= wait(self.stepping.keys() - done, left_s, FIRST_COMPLETED).done
        done |= {future for future in self.stepping if future.done()}
        return self._gathered({self.stepping.pop(future): future.result() for future in done})

    def step(self, action, active_N):  # for evaluation, videos and lockstep
        return self._gathered({n: self._step(n, action["move"][n : n + 1]) for n in np.flatnonzero(active_N)})[1]

    def _step(self, n, move):
        time.sleep(np.random.exponential(0.01))
        return self.games[n].step({"move": move}, np.ones(1, np.bool_))

    def _gathered(self, steps):
        answered_N, terminated_N, truncated_N = np.zeros((3, self.num_envs), np.bool_)
        reward_N = np.zeros(self.num_envs, np.float32)
        for n, step in steps.items():
            answered_N[n], self.state[n], reward_N[n] = True, step.observation["state"][0], step.reward_N[0]
            terminated_N[n], truncated_N[n] = step.terminated_N[0], step.truncated_N[0]
        statistics_NK = np.concatenate([game.steps for game in self.games])[:, None].astype(np.float32)
        crashed_N = np.zeros(self.num_envs, np.bool_)
        return answered_N, Step({"state": self.state}, reward_N, terminated_N, truncated_N, crashed_N, statistics_NK)

    def close(self):
        self.threads.shutdown(wait=False, cancel_futures=True)
