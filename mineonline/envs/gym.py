"""Any gymnasium environment behind the contract. One that is broken costs only its own episode.

Axes: N environments.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import Action, EnvSpec, Observation, Step
from mineonline.envs.deadline import Deadline, Overdue
from mineonline.envs.failures import Failures
from mineonline.envs.settings import IDLE_S, GymEnvConfig
from mineonline.envs.spaces import Leaf, Unfit, action_reader, observation_leaves
from mineonline.errors import ConfigError, EnvError, MineonlineError

log = logging.getLogger(__name__)

FAULTS = (Exception, SystemExit, Overdue)
"""What an environment may raise."""
_TRIED_STEPS, _TRIED_S = 10, 0.5
_SLOW_S = 2e-3
"""Of a step. A step in another process costs 0.2 ms more."""


class GymEnv:
    """N copies of one gymnasium environment, stepped one after the other. Implements `VectorEnv`.

    Episode e of the environment with global index i is seeded with `SeedSequence(seed, (i, e))`.

    An environment fails when it raises, does not answer within `config.step_timeout_s` (see `Deadline` for what cannot
    be interrupted), or returns something that is not in its space, or not finite. Its episode then ends (truncated,
    crashed) with the last good observation, and it is closed and made anew, after a pause if it keeps failing. Until an
    episode has started it is in `waiting_N`. EnvError after `config.max_failures` failures of one environment without a
    decision in between.
    """

    def __init__(self, config: GymEnvConfig, *, num_envs: int, seed: int, first_index: int = 0) -> None:
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._config, self._seed, self._first_index = config, seed, first_index
        self._failures = Failures("environment", first_index, most=config.max_failures)
        self._deadline = Deadline(config.step_timeout_s)
        self._envs: list[gymnasium.Env[Any, Any] | None] = [None] * num_envs
        first = self._make_first()
        self.spec = _spec(config.id, first)
        self._actions = action_reader(first.action_space, config.id)
        leaves = observation_leaves(first.observation_space, config.id)
        self._shown, self._next = _Rows(leaves, num_envs), _Rows(leaves, num_envs)
        """Observations are written to the second; they become the first when they are known to be good."""
        self._episode_N = [0] * num_envs

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Start new episodes; an environment that fails to is in `waiting_N`, and shows its last observation."""
        self.waiting_N |= which_N
        self._begin_episodes(0.0)
        return self._shown.arrays

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        playing = np.flatnonzero(active_N & ~self.waiting_N).tolist()
        # not arrays: writing single numbers into those would cost cheap environments a few percent of their speed
        rewards = [0.0] * self.num_envs
        terminated, truncated = bytearray(self.num_envs), bytearray(self.num_envs)
        chosen = self._actions.of(action)
        faults: dict[int, BaseException] = {}
        envs, rows, deadline = self._envs, self._next.rows, self._deadline
        with deadline:
            for n in playing:
                deadline.calls += 1
                try:
                    observation, reward, dies, cut, _ = envs[n].step(chosen[n])  # type: ignore[union-attr]
                    rewards[n], terminated[n], truncated[n] = float(reward), bool(dies), bool(cut)
                    for read, row in rows[n]:
                        row[...] = read(observation)
                except FAULTS as error:
                    deadline.calls += 1
                    faults[n] = error
        reward_N = np.array(rewards, np.float32)
        terminated_N, truncated_N = (np.frombuffer(flags, np.bool_) for flags in (terminated, truncated))
        if not is_finite(reward_N):
            for n in np.flatnonzero(~np.isfinite(reward_N)).tolist():
                faults.setdefault(n, Unfit(f"its reward is {rewards[n]:g}, not a finite number"))
        faults = self._not_finite(playing) | faults
        truncated_N &= ~terminated_N
        for n, fault in faults.items():
            reward_N[n], terminated_N[n], truncated_N[n] = 0.0, False, True
            self._fail(n, fault)
        good = [n for n in playing if n not in faults] if faults else playing
        self._failures.decided(good)
        self._show(good)
        self._begin_episodes(0.0 if playing else IDLE_S)
        reasons = self._failures.take()
        crashed_N = np.zeros(self.num_envs, np.bool_)
        if reasons:
            crashed_N[list(reasons)] = True
        return Step(
            observation=self._shown.arrays, reward_N=reward_N, terminated_N=terminated_N, truncated_N=truncated_N,
            crashed_N=crashed_N, statistics_NK=np.zeros((self.num_envs, 0), np.float32), reasons=reasons,
        )  # fmt: skip

    def close(self) -> None:
        for n in range(self.num_envs):
            self._discard(n)
        self._deadline.close()

    def _show(self, good: list[int]) -> None:
        """Show what these environments returned; the others stay as they were."""
        if len(good) < self.num_envs:
            for n in set(range(self.num_envs)).difference(good):
                self._next.copy(n, self._shown)
        self._shown, self._next = self._next, self._shown

    def _begin_episodes(self, wait_s: float) -> None:
        """Start the episodes of the waiting environments. Waits for the first of them, `wait_s` at most."""
        until = time.monotonic() + wait_s
        while waiting := np.flatnonzero(self.waiting_N).tolist():
            self._begin([n for n in waiting if not self._failures.pause_s(n)])
            left_s = until - time.monotonic() if wait_s else 0.0
            if left_s <= 0 or not self.waiting_N.all():
                return
            time.sleep(min(left_s, *map(self._failures.pause_s, waiting)))

    def _begin(self, which: list[int]) -> None:
        """Start an episode in each of these, in a new environment where there is none."""
        faults: dict[int, BaseException] = {}
        with self._deadline:
            for n in which:
                self._deadline.calls += 1
                try:
                    self._next.write(n, self._first_observation(n))
                except FAULTS as error:
                    self._deadline.calls += 1
                    faults[n] = error
        faults |= self._not_finite(which)
        for n in which:
            if n in faults:
                self._fail(n, faults[n])
            else:
                self._shown.copy(n, self._next)
                self.waiting_N[n] = False

    def _first_observation(self, n: int) -> Any:
        env = self._envs[n]
        if env is None:
            env = self._envs[n] = make(self._config)
            if _spec(self._config.id, env) != self.spec:
                raise Unfit("its spaces are not those of its first copy")
        seed = first_seed(self._seed, self._first_index + n, self._episode_N[n])
        self._episode_N[n] += 1
        return env.reset(seed=seed)[0]

    def _not_finite(self, which: list[int]) -> dict[int, BaseException]:
        """Those of `which` whose newest observation is not finite."""
        found = self._next.not_finite()
        return {n: Unfit(f"the observation {found[n]!r} is not finite") for n in which if n in found} if found else {}

    def _make_first(self) -> gymnasium.Env[Any, Any]:
        """Make environment 0, which says what the others are like. Tries again as if it had to begin an episode."""
        while True:
            try:
                with self._deadline:
                    env = self._envs[0] = make(self._config)
                return env
            except FAULTS as error:
                self._fail(0, error)
            time.sleep(self._failures.pause_s(0))

    def _fail(self, n: int, error: BaseException) -> None:
        """An environment has failed: close it. An error that is meant for the user is raised."""
        if isinstance(error, MineonlineError):
            raise error
        self._discard(n)
        self._failures.add(n, reason_of(error, self._config), error=error)

    def _discard(self, n: int) -> None:
        env, self._envs[n] = self._envs[n], None
        if env is not None:
            with self._deadline:
                _close(env)


class _Rows:
    """An observation of each environment."""

    def __init__(self, leaves: list[Leaf], num_envs: int) -> None:
        self.arrays = {leaf.name: np.zeros((num_envs, *leaf.spec.shape), leaf.spec.dtype) for leaf in leaves}
        self.rows = [[(leaf.read, self.arrays[leaf.name][n]) for leaf in leaves] for n in range(num_envs)]
        """For each environment, how to read each part of an observation, and where it goes."""

    def write(self, n: int, observation: Any) -> None:
        """Unfit if it is not what the space says."""
        for read, row in self.rows[n]:
            row[...] = read(observation)

    def copy(self, n: int, source: _Rows) -> None:
        """Take over one environment's observation."""
        for name, array in self.arrays.items():
            array[n] = source.arrays[name][n]

    def not_finite(self) -> dict[int, str]:
        """Environment -> a part of its observation that is not finite."""
        found: dict[int, str] = {}
        for name, array in self.arrays.items():
            if array.dtype == np.float32 and not is_finite(array):
                bad_N = ~np.isfinite(array).reshape(len(array), -1).all(1)
                found |= dict.fromkeys(np.flatnonzero(bad_N).tolist(), name)
        return found


def is_slow(config: GymEnvConfig) -> bool:
    """Whether a step takes so long that a process for each environment is worth it. Tries a few, in this process."""
    took: list[float] = []
    deadline = Deadline(config.step_timeout_s)
    env: gymnasium.Env[Any, Any] | None = None
    try:
        with deadline:
            env = make(config)
            env.action_space.seed(0)
            env.reset(seed=0)
            for _ in range(_TRIED_STEPS):
                deadline.calls += 1
                began = time.monotonic()
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                took.append(time.monotonic() - began)
                if terminated or truncated or sum(took) > _TRIED_S:
                    break
    except Overdue:
        return True
    except FAULTS as error:
        log.info("the environment failed while its speed was tried: %s", reason_of(error, config))
    finally:
        if env is not None:
            with deadline:
                _close(env)
        deadline.close()
    return bool(took) and statistics.median(took) > _SLOW_S


def first_seed(seed: int, index: int, episode: int) -> int:
    """What the environment with this global index is seeded with when this episode begins."""
    return int(np.random.SeedSequence(seed, spawn_key=(index, episode)).generate_state(1)[0])


def is_finite(array: NDArray[np.float32]) -> bool:
    """Whether every number is."""
    # the sum of squares first: this takes a fifth of the time, and it is finite only if every number is
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def gym_spec(config: GymEnvConfig) -> EnvSpec:
    """The spec of `GymEnv`, from a temporary instance.

    ConfigError if its id is unknown or its spaces unsupported; EnvError if it cannot be made.
    """
    try:
        env = make(config)
    except MineonlineError:
        raise
    except FAULTS as error:
        raise EnvError(f"env.id={config.id}: it cannot be made. {reason_of(error, config)}") from error
    try:
        return _spec(config.id, env)
    finally:
        _close(env)


def make(config: GymEnvConfig) -> gymnasium.Env[Any, Any]:
    """A new environment. ConfigError if gymnasium does not know it, EnvError if a package is missing."""
    try:
        return gymnasium.make(config.id, **config.kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        raise ConfigError(f"env.id={config.id}: gymnasium has no such environment. {error}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvError(f"env.id={config.id}: a package is missing. {error}") from None


def _close(env: gymnasium.Env[Any, Any]) -> None:
    try:
        env.close()
    except FAULTS:
        # it is not used any more, and is perhaps closed because it is broken
        log.debug("an environment could not be closed", exc_info=True)


def _spec(env_id: str, env: gymnasium.Env[Any, Any]) -> EnvSpec:
    return EnvSpec(
        observation={leaf.name: leaf.spec for leaf in observation_leaves(env.observation_space, env_id)},
        action=action_reader(env.action_space, env_id).specs,
    )


def reason_of(error: BaseException, config: GymEnvConfig) -> str:
    """What was wrong, and where."""
    if isinstance(error, Unfit):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, Overdue):
        # the last frame is the one that interrupts; a loop may be on any of its lines
        return f"no answer within env.step_timeout_s={config.step_timeout_s:g} ({_file(frames[-2])}, {frames[-2].name})"
    return f"{type(error).__name__}: {error} ({_file(frames[-1])}:{frames[-1].lineno})"


def _file(frame: traceback.FrameSummary) -> str:
    return Path(frame.filename).name
