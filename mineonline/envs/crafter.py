"""Crafter (Hafner 2021) behind the contract: survival seen from above, and 22 achievements to unlock.

Axes: N environments, H height, W width, A achievements.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.errors import EnvError

try:
    import crafter
    from crafter import constants
except ModuleNotFoundError as error:
    raise EnvError(
        f"env=crafter: the package {error.name} is missing. Install it with  pip install -e '.[crafter]'"
    ) from None

IMAGE_SIZE = (64, 64)
"""Width and height of the picture, as in all published results."""
ACHIEVEMENTS: tuple[str, ...] = tuple(constants.achievements)
ACTIONS: tuple[str, ...] = tuple(constants.actions)
"""What each class of the action does."""
SPEC = EnvSpec(
    observation={"image": TensorSpec((IMAGE_SIZE[1], IMAGE_SIZE[0], 3), "uint8")},
    action={"action": len(ACTIONS)},
    statistics=("achievements", *(f"achievement/{name}" for name in ACHIEVEMENTS)),
)
"""`achievements` counts those unlocked in the episode so far; each also has its own column, 0 or 1."""


class CrafterEnv:
    """N copies of Crafter, stepped one after the other. Implements `VectorEnv`.

    Health 0 terminates an episode; `length` steps truncate it. Episode e of the environment with global index i is
    seeded with `SeedSequence(seed, (i, e))`.
    """

    def __init__(self, *, num_envs: int, length: int, seed: int, first_index: int = 0) -> None:
        self.spec = SPEC
        self.num_envs = num_envs
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self._envs = [crafter.Env(size=IMAGE_SIZE, length=length, seed=0) for _ in range(num_envs)]
        self._seed = seed
        self._first_index = first_index
        self._episode_N = np.zeros(num_envs, np.int64)
        self._image = np.zeros((num_envs, *SPEC.observation["image"].shape), np.uint8)
        self._unlocked_NA = np.zeros((num_envs, len(ACHIEVEMENTS)), np.bool_)

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        for i in np.flatnonzero(which_N):
            sequence = np.random.SeedSequence(
                self._seed, spawn_key=(self._first_index + int(i), int(self._episode_N[i]))
            )
            self._image[i] = _begin(self._envs[i], int(sequence.generate_state(1)[0]))
            self._unlocked_NA[i] = False
            self._episode_N[i] += 1
        return {"image": self._image}

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        reward_N = np.zeros(self.num_envs, np.float32)
        terminated_N = np.zeros(self.num_envs, np.bool_)
        truncated_N = np.zeros(self.num_envs, np.bool_)
        for i in np.flatnonzero(active_N):
            self._image[i], reward_N[i], ended, info = self._envs[i].step(int(action["action"][i]))
            terminated_N[i] = info["discount"] == 0
            truncated_N[i] = ended and not terminated_N[i]
            self._unlocked_NA[i] = [info["achievements"][name] > 0 for name in ACHIEVEMENTS]
        return Step(
            observation={"image": self._image},
            reward_N=reward_N,
            terminated_N=terminated_N,
            truncated_N=truncated_N,
            crashed_N=np.zeros(self.num_envs, np.bool_),
            statistics_NK=np.column_stack([self._unlocked_NA.sum(1), self._unlocked_NA]).astype(np.float32),
        )

    def render(self, n: int, width: int, height: int) -> NDArray[np.uint8]:
        """What the player of environment n sees now, `[height, width, 3]`; changes nothing."""
        # night noise is drawn from the same random generator as what happens next
        random = self._envs[n]._world.random
        state = random.get_state()
        picture: NDArray[np.uint8] = self._envs[n].render((width, height))
        random.set_state(state)
        return picture

    def close(self) -> None:
        """Nothing to free."""


class _Ordered(dict[Any, None]):
    """The set operations that Crafter uses, in insertion order."""

    def add(self, thing: object) -> None:
        self[thing] = None

    def remove(self, thing: object) -> None:
        del self[thing]


def _begin(env: Any, seed: int) -> NDArray[np.uint8]:
    """Start the episode that `seed` alone determines, not what `env` played before; returns its first picture."""
    # crafter.Env derives a world from its seed and its count of episodes
    env._seed, env._episode = seed, 0
    picture: NDArray[np.uint8] = env.reset()
    # the creature that despawns is drawn by its position in a set, whose order depends on memory addresses
    world = env._world
    chunks: collections.defaultdict[Any, _Ordered] = collections.defaultdict(_Ordered)
    for thing in world.objects:
        chunks[world.chunk_key(thing.pos)].add(thing)
    world._chunks = chunks
    return picture


def score(success_rates: Iterable[float]) -> float:
    """Crafter's score in percent: exp(mean(ln(1 + s))) - 1 over the success rates s in percent (Hafner 2021, 3.2).

    `success_rates`: for each achievement, the fraction of episodes that unlocked it, 0 to 1.
    """
    percent = 100 * np.fromiter(success_rates, np.float64)
    return float(np.expm1(np.log1p(percent).mean()))


def warm_up() -> None:
    """Compile the noise functions that generate worlds, or load them from their cache. Call before workers start."""
    _begin(crafter.Env(seed=0), 0)
