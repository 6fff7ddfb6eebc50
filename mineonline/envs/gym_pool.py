"""N copies of a slow gymnasium environment, each in a process of its own. Axes: N environments.

    python -m mineonline.envs.gym_pool <descriptor to read> <descriptor to write> <worker's process id>

is such a process. It may crash or hang: the worker sets a deadline for every order, and replaces it.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np

from mineonline.envs.contract import ContinuousAction, EnvSpec
from mineonline.envs.failures import Failures
from mineonline.envs.gym import FAULTS, first_seed, gym_spec, is_finite, make, reason_of
from mineonline.envs.messages import (
    Begin,
    Close,
    Decide,
    Failed,
    GameSetup,
    Link,
    Outcome,
    Ready,
    link_to_worker,
)
from mineonline.envs.pool import Pool, Slot
from mineonline.envs.process import EnvProcess, new_scratch
from mineonline.envs.settings import GymEnvConfig
from mineonline.envs.spaces import Unfit, action_reader, observation_leaves
from mineonline.errors import MineonlineError

log = logging.getLogger(__name__)

_START_S = 60.0
"""A process may take so much longer for its first episode: it imports, perhaps beside many others."""


class GymPool(Pool):
    """N copies of one gymnasium environment. Episodes, and what counts as a failure, are those of `GymEnv`.

    But the episode that a process could not even start for is skipped too.
    """

    def __init__(self, config: GymEnvConfig, *, num_envs: int, seed: int, first_index: int = 0) -> None:
        self._config, self._seed, self._first_index = config, seed, first_index
        super().__init__(
            gym_spec(config), num_envs, Failures("environment", first_index, most=config.max_failures),
            start_timeout_s=_START_S + config.step_timeout_s, step_timeout_s=config.step_timeout_s,
        )  # fmt: skip

    start_limit = f"env.step_timeout_s, and {_START_S:g} s more for the first episode of a process"

    def patience_s(self, process: EnvProcess) -> float:
        has_begun = process.fast_resets >= 0
        return self._step_timeout_s if has_begun else self._start_timeout_s

    def start(self, n: int) -> EnvProcess:
        setup = GameSetup(self._config.id, self._config.kwargs, self.spec)
        return EnvProcess("mineonline.envs.gym_pool", setup, new_scratch(), {})

    def episode(self, n: int, slot: Slot) -> Begin:
        return Begin(episode_seed=first_seed(self._seed, self._first_index + n, slot.episode))


class _Game:
    """One environment, and its episode."""

    def __init__(self, setup: GameSetup, config: GymEnvConfig) -> None:
        self.env: gymnasium.Env[Any, Any] = make(config)
        self._leaves = observation_leaves(self.env.observation_space, setup.id)
        self._actions = action_reader(self.env.action_space, setup.id)
        spec = EnvSpec({leaf.name: leaf.spec for leaf in self._leaves}, self._actions.specs)
        if spec != setup.spec:
            raise Unfit("its spaces are not those of its first copy")

    def begin(self, order: Begin) -> dict[str, bytes]:
        return self._seen(self.env.reset(seed=order.episode_seed)[0])

    def decide(self, order: Decide) -> Outcome:
        action = {}
        for name, spec in self._actions.specs.items():
            chosen = order.action[name]
            if isinstance(spec, ContinuousAction):
                assert isinstance(chosen, bytes)
                action[name] = np.frombuffer(chosen, np.float32).reshape(1, *spec.shape)
            else:
                action[name] = np.array([chosen])
        observation, reward, terminated, truncated, _ = self.env.step(self._actions.of(action)[0])
        paid = float(reward)
        if not math.isfinite(paid):
            raise Unfit(f"its reward is {paid:g}, not a finite number")
        cut = bool(truncated) and not terminated
        return Outcome(self._seen(observation), paid, bool(terminated), cut, statistics=[], frames=[])

    def _seen(self, observation: Any) -> dict[str, bytes]:
        seen = {}
        for leaf in self._leaves:
            array = np.empty(leaf.spec.shape, leaf.spec.dtype)
            array[...] = leaf.read(observation)
            if array.dtype == np.float32 and not is_finite(array):
                raise Unfit(f"the observation {leaf.name!r} is not finite")
            seen[leaf.name] = array.tobytes()
        return seen


def _play(link: Link) -> None:
    """Follow the worker's orders until it sends `Close`. EOFError or BrokenPipeError if it is gone."""
    setup = link.receive()
    assert isinstance(setup, GameSetup), setup
    config = GymEnvConfig(id=setup.id, kwargs=setup.kwargs, step_timeout_s=0, max_failures=0)
    game: _Game | None = None
    while not isinstance(order := link.receive(), Close):
        try:
            game = game or _Game(setup, config)
            answer = Ready(game.begin(order)) if isinstance(order, Begin) else game.decide(order)
        except FAULTS as error:
            log.warning("failed", exc_info=error)
            is_users = isinstance(error, MineonlineError)
            link.send(Failed(str(error) if is_users else reason_of(error, config), users=is_users))
            return
        link.send(answer)
    if game is not None:
        game.env.close()


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError):  # the worker has left
        _play(link_to_worker())
