"""Any gymnasium environment behind the contract."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.errors import ConfigError, EnvError


class GymEnv:
    """N copies of one gymnasium environment, stepped one after the other. Implements `VectorEnv`.

    Episode e of the environment with global index i is seeded with `SeedSequence(seed, (i, e))`.
    """

    def __init__(self, env_id: str, kwargs: dict[str, Any], *, num_envs: int, seed: int, first_index: int = 0) -> None:
        self._envs = [_make(env_id, kwargs) for _ in range(num_envs)]
        self.spec = _spec(env_id, self._envs[0])
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._seed = seed
        self._first_index = first_index
        self._episode_N = np.zeros(num_envs, np.int64)
        ((self._name, tensor),) = self.spec.observation.items()
        self._observation = np.zeros((num_envs, *tensor.shape), tensor.dtype)
        self._multi = isinstance(self._envs[0].action_space, gymnasium.spaces.MultiDiscrete)

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        for i in np.flatnonzero(which_N):
            sequence = np.random.SeedSequence(
                self._seed, spawn_key=(self._first_index + int(i), int(self._episode_N[i]))
            )
            self._observation[i], _ = self._envs[i].reset(seed=int(sequence.generate_state(1)[0]))
            self._episode_N[i] += 1
        return {self._name: self._observation}

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        reward_N = np.zeros(self.num_envs, np.float32)
        terminated_N = np.zeros(self.num_envs, np.bool_)
        truncated_N = np.zeros(self.num_envs, np.bool_)
        chosen = np.stack(list(action.values()), -1)
        for i in np.flatnonzero(active_N):
            choice = chosen[i] if self._multi else int(chosen[i, 0])
            self._observation[i], reward, terminated, truncated, _ = self._envs[i].step(choice)
            reward_N[i], terminated_N[i], truncated_N[i] = float(reward), terminated, truncated and not terminated
        return Step(
            observation={self._name: self._observation},
            reward_N=reward_N,
            terminated_N=terminated_N,
            truncated_N=truncated_N,
            crashed_N=np.zeros(self.num_envs, np.bool_),
            statistics_NK=np.zeros((self.num_envs, 0), np.float32),
        )

    def close(self) -> None:
        for env in self._envs:
            env.close()


def gym_spec(env_id: str, kwargs: dict[str, Any]) -> EnvSpec:
    """The spec of `GymEnv`, from a temporary instance. ConfigError if its id is unknown or its spaces unsupported."""
    env = _make(env_id, kwargs)
    try:
        return _spec(env_id, env)
    finally:
        env.close()


def _make(env_id: str, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return gymnasium.make(env_id, **kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        raise ConfigError(f"env.id={env_id}: gymnasium has no such environment. {error}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise EnvError(f"env.id={env_id}: a package is missing. {error}") from None


def _spec(env_id: str, env: gymnasium.Env[Any, Any]) -> EnvSpec:
    space, actions = env.observation_space, env.action_space
    if not isinstance(space, gymnasium.spaces.Box):
        raise ConfigError(f"env.id={env_id}: observations are {space}; only Box is supported.")
    if isinstance(actions, gymnasium.spaces.Discrete) and actions.start == 0:
        classes = {"action": int(actions.n)}
    elif isinstance(actions, gymnasium.spaces.MultiDiscrete) and actions.nvec.ndim == 1 and not actions.start.any():
        classes = {f"action{i}": int(n) for i, n in enumerate(actions.nvec)}
    else:
        raise ConfigError(
            f"env.id={env_id}: actions are {actions}; only Discrete and MultiDiscrete from 0 are supported."
        )
    picture = space.dtype == np.uint8 and len(space.shape) == 3
    tensor = TensorSpec(shape=tuple(space.shape), dtype="uint8" if picture else "float32")
    return EnvSpec(observation={"image" if picture else "state": tensor}, action=classes)
