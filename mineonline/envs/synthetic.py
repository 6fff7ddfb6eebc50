"""Environments of a given pace without a world, to measure everything else.

Minecraft's pictures and actions, but a step only waits: seen from a worker, Minecraft is such a wait.
Axes: N environments, H height, W width, D decisions of an episode.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import NUM_CLASSES
from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.envs.opening import episode_seed, first_time_limit
from mineonline.envs.settings import SyntheticEnvConfig

_PICTURES = 256
"""How many different pictures there are: windows at all heights of one strip of noise."""


def spec_of(config: SyntheticEnvConfig) -> EnvSpec:
    """Those of `env=world`, with one statistic."""
    width, height = config.image_size
    return EnvSpec({"image": TensorSpec((height, width, 3), "uint8")}, dict(NUM_CLASSES), ("decisions",))


class SyntheticEnv:
    """N environments that wait at the same time: a vector step lasts as long as the slowest of them.

    The waits of an episode, its rewards (standard normal) and its pictures follow from `seed`, the global index and the
    episode's count, whatever the actions are. Each episode is truncated after `episode_decisions`; with `stagger`, the
    first one after fewer.
    """

    def __init__(
        self, config: SyntheticEnvConfig, *, num_envs: int, seed: int, first_index: int, stagger: bool
    ) -> None:
        self.spec = spec_of(config)
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._config, self._seed, self._first_index, self._stagger = config, seed, first_index, stagger
        width, height = config.image_size
        rows = np.random.default_rng(seed).integers(0, 256, (height + _PICTURES - 1, width, 3), np.uint8)
        # [_PICTURES, H, W, 3], of which none is a copy
        self._pictures = np.lib.stride_tricks.sliding_window_view(rows, height, axis=0).transpose(0, 3, 1, 2)
        self._image = np.zeros((num_envs, height, width, 3), np.uint8)
        self._first_picture_N, self._limit_N, self._decision_N, self._episode_N = np.zeros((4, num_envs), np.int64)
        self._wait_s_ND, self._reward_ND = np.zeros((2, num_envs, config.episode_decisions), np.float32)

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        for n in np.flatnonzero(which_N).tolist():
            self._open(n, self._first_index + n, int(self._episode_N[n]))
            self._show(n)
        self._episode_N[which_N] += 1
        return {"image": self._image}

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        wait_s = float(self._wait_s(np.flatnonzero(active_N)).max(initial=0.0))
        if wait_s > 0:
            time.sleep(wait_s)
        return self._stepped(active_N)

    def close(self) -> None:
        """Nothing to free."""

    def _wait_s(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """What the present decisions of these environments last."""
        waits: NDArray[np.float32] = self._wait_s_ND[which, self._decision_N[which]]
        return waits

    def _stepped(self, active_N: NDArray[np.bool_]) -> Step:
        active = np.flatnonzero(active_N)
        reward_N = np.zeros(self.num_envs, np.float32)
        reward_N[active] = self._reward_ND[active, self._decision_N[active]]
        self._decision_N[active] += 1
        for n in active.tolist():
            self._show(n)
        none_N = np.zeros(self.num_envs, np.bool_)
        return Step(
            observation={"image": self._image},
            reward_N=reward_N,
            terminated_N=none_N,
            truncated_N=active_N & (self._decision_N == self._limit_N),
            crashed_N=none_N,
            statistics_NK=self._decision_N[:, None].astype(np.float32),
        )

    def _open(self, n: int, index: int, episode: int) -> None:
        config, decisions = self._config, self._config.episode_decisions
        draw = np.random.default_rng(episode_seed(self._seed, index, episode))
        self._first_picture_N[n] = draw.integers(_PICTURES)
        self._reward_ND[n] = draw.standard_normal(decisions)
        # of this mean, since exp(a normal number) has the mean exp(mean + variance / 2)
        self._wait_s_ND[n] = config.step_ms / 1000 * draw.lognormal(-(config.jitter**2) / 2, config.jitter, decisions)
        staggered = self._stagger and episode == 0
        self._limit_N[n] = first_time_limit(self._seed, index, decisions) if staggered else decisions
        self._decision_N[n] = 0

    def _show(self, n: int) -> None:
        self._image[n] = self._pictures[(self._first_picture_N[n] + self._decision_N[n]) % _PICTURES]


class Waits:
    """Which of N environments that only wait have answered."""

    def __init__(self, num_envs: int) -> None:
        self._ready_at_N = np.full(num_envs, np.inf)

    def begin(self, which_N: NDArray[np.bool_], wait_s: NDArray[np.floating]) -> None:
        """These answer after `wait_s`, one number for each of them."""
        # in double precision: in single, the clock of a machine that has been up for a day moves in steps of 8 ms
        self._ready_at_N[which_N] = time.monotonic() + wait_s.astype(np.float64)

    def answered(self, at_least: int, timeout_s: float) -> NDArray[np.bool_]:
        """Those that have, as `AsyncVectorEnv.receive` waits for them."""
        until = time.monotonic() + timeout_s
        stepping = np.sort(self._ready_at_N[np.isfinite(self._ready_at_N)])
        if len(stepping) and at_least > 0:
            until = min(until, float(stepping[min(at_least, len(stepping)) - 1]))
            time.sleep(max(0.0, until - time.monotonic()))
        answered_N = self._ready_at_N <= time.monotonic()
        self._ready_at_N[answered_N] = np.inf
        return answered_N


class SyntheticAsyncEnv(SyntheticEnv):
    """The same at their own pace, as if each were in a process. Implements `AsyncVectorEnv`."""

    def __init__(
        self, config: SyntheticEnvConfig, *, num_envs: int, seed: int, first_index: int, stagger: bool
    ) -> None:
        super().__init__(config, num_envs=num_envs, seed=seed, first_index=first_index, stagger=stagger)
        self._waits = Waits(num_envs)

    def send(self, action: Action, which_N: NDArray[np.bool_]) -> None:
        self._waits.begin(which_N, self._wait_s(np.flatnonzero(which_N)))

    def receive(self, at_least: int, timeout_s: float) -> tuple[NDArray[np.bool_], Step]:
        answered_N = self._waits.answered(at_least, timeout_s)
        return answered_N, self._stepped(answered_N)
