"""The embedded world as an environment: N worlds behind the contract of `mineonline.envs.contract`.

Axes: N worlds, H height, W width, C channels, R reward rules, K statistics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import CAMERA_DEGREES, GROUP_NAMES, NUM_BUTTONS, NUM_CAMERA, masked_buttons
from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.envs.tasks import Item, Mobs, Reward, Task
from mineonline.envs.world.art import load_art
from mineonline.envs.world.chance import episode_seed
from mineonline.envs.world.draw import draw, draw_one
from mineonline.envs.world.info import Info, info_of
from mineonline.envs.world.spawn import begin, start_of
from mineonline.envs.world.state import COUNTERS, new_world
from mineonline.envs.world.tick import Rules, Scores, advance

_CAMERA_GROUP = GROUP_NAMES.index("camera")
# what distinguishes the random numbers of a terrain from those of the episode on it
_LAND, _EPISODE, _STAGGER = 0, 1, 2


class WorldEnv:
    """N worlds of one task, stepped together in the calling thread, without the GIL.

    `image_size` is (width, height). `seed` and the global index (`first_index` + n) and the episode's count decide an
    episode. With `stagger` the first episode of each world starts at a random phase of its time limit, so that the
    time limits of the worlds do not fall together; set `on_tick` to be called after every tick of a decision, for
    example to record a video with `render`.
    """

    def __init__(
        self,
        task: Task,
        *,
        num_envs: int,
        image_size: tuple[int, int],
        seed: int,
        first_index: int = 0,
        stagger: bool = False,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        self.spec = self.spec_of(task, image_size)
        self.num_envs = num_envs
        self.on_tick = on_tick
        self._task, self._seed, self._first_index, self._stagger = task, seed, first_index, stagger
        self._start = start_of(task)
        self._rules = rules_of(task)
        self._choice = masked_buttons(task.actions.forbid, task.actions.hold)
        self._statistics = np.array([COUNTERS[pair] for pair in _rewarded(task)])
        self._art = load_art()
        width, height = image_size
        self.world = new_world(num_envs, len(self._start.mob_kind))
        self._scores = _new_scores(num_envs, self._rules)
        self._episode = np.zeros(num_envs, np.int64)
        self._image = np.zeros((num_envs, height, width, 3), np.uint8)
        self._depth = np.zeros((height, width), np.float32)

    @staticmethod
    def spec_of(task: Task, image_size: tuple[int, int]) -> EnvSpec:
        """What a policy needs to be built for a task; starts nothing."""
        width, height = image_size
        return EnvSpec(
            observation={"image": TensorSpec((height, width, 3), "uint8")},
            action={"buttons": NUM_BUTTONS, "camera": NUM_CAMERA},
            statistics=tuple(f"{event}/{thing}" for event, thing in _rewarded(task)),
        )

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Begin a new episode in the worlds of `which_N`."""
        for n in np.flatnonzero(which_N).tolist():
            index, episode = self._first_index + n, int(self._episode[n])
            land = 0 if self._task.reset == "same_terrain" else episode
            begin(
                self.world,
                n,
                self._start,
                episode_seed(self._seed, index, 3 * land + _LAND),
                episode_seed(self._seed, index, 3 * episode + _EPISODE),
                self._time_limit(index, episode),
            )
            self._scores.seen[n], self._scores.paid[n] = 0.0, 0.0
            self._episode[n] += 1
        draw(self.world, self._art, np.asarray(which_N, np.bool_), self._image, self._depth)
        return {"image": self._image}

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """`task.action_repeat` ticks in every active world, fewer where an episode ends before."""
        active_N = np.asarray(active_N, np.bool_)
        choice_NG = self._choice[_checked(action["buttons"], NUM_BUTTONS, "buttons")]
        moves = choice_NG[:, _CAMERA_GROUP, None] == 1
        camera_N2 = np.where(moves, CAMERA_DEGREES[_checked(action["camera"], NUM_CAMERA, "camera")], 0.0)
        repeat = self._task.action_repeat
        stops = [*range(1, repeat)] if self.on_tick else []
        first = 0
        for end in (*stops, repeat):
            advance(self.world, self._rules, self._scores, choice_NG, camera_N2, active_N, first, end, repeat)
            first = end
            if self.on_tick:
                self.on_tick()
        draw(self.world, self._art, active_N, self._image, self._depth)
        return Step(
            observation={"image": self._image},
            reward_N=self._scores.reward.copy(),
            terminated_N=self._scores.terminated.copy(),
            truncated_N=self._scores.truncated.copy(),
            crashed_N=np.zeros(self.num_envs, np.bool_),
            statistics_NK=self.world.counter[:, self._statistics].astype(np.float32),
        )

    def render(self, n: int, width: int, height: int) -> NDArray[np.uint8]:
        """What the player of world n sees now, `[height, width, 3]`; changes nothing."""
        image = np.zeros((height, width, 3), np.uint8)
        draw_one(self.world, self._art, n, image, np.zeros((height, width), np.float32))
        return image

    def infos(self, *, voxel_range: int | None = None, mob_range: float | None = None) -> list[Info]:
        """MineStudio's info of each world. Slow: about 0.3 ms each, more with voxels.

        `voxel_range` adds the blocks, `mob_range` the mobs, whose distance along each axis is no more, in blocks.
        """
        return [info_of(self.world, n, voxel_range, mob_range) for n in range(self.num_envs)]

    def close(self) -> None:
        """Nothing to free."""

    def _time_limit(self, index: int, episode: int) -> int:
        limit = self._task.time_limit_ticks
        if self._stagger and episode == 0:
            return 1 + int(episode_seed(self._seed, index, _STAGGER) % np.uint64(limit))
        return limit


def rules_of(task: Task) -> Rules:
    """The arrays of a task's rewards."""
    most_objects = max(len(rule.objects) for rule in task.rewards)
    column = np.full((len(task.rewards), most_objects), -1, np.int64)
    for r, rule in enumerate(task.rewards):
        column[r, : len(rule.objects)] = [COUNTERS[rule.event, thing] for thing in rule.objects]
    return Rules(
        column=column,
        reward=np.array([rule.reward for rule in task.rewards], np.float64),
        most=np.array([rule.max_reward_times for rule in task.rewards], np.float64),
        per_unit=np.array([rule.per_unit for rule in task.rewards], np.bool_),
    )


def _rewarded(task: Task) -> list[tuple[str, str]]:
    """(event, object) pairs that a task rewards, each once, in its order."""
    return list(dict.fromkeys((rule.event, thing) for rule in task.rewards for thing in rule.objects))


def _new_scores(num_worlds: int, rules: Rules) -> Scores:
    return Scores(
        reward=np.zeros(num_worlds, np.float32),
        terminated=np.zeros(num_worlds, np.bool_),
        truncated=np.zeros(num_worlds, np.bool_),
        seen=np.zeros((num_worlds, *rules.column.shape)),
        paid=np.zeros((num_worlds, len(rules.reward))),
    )


def _checked(classes: NDArray[np.int64], limit: int, name: str) -> NDArray[np.int64]:
    """ValueError if a class does not exist: numpy would take a negative one from the end of the table."""
    classes = np.asarray(classes)
    if classes.size and (classes.min() < 0 or classes.max() >= limit):
        raise ValueError(f"action {name!r} must be 0 to {limit - 1}, but it is {classes.min()} to {classes.max()}")
    return classes


def warm_up() -> None:
    """Compile all kernels, or load them from the cache: call it once before workers start.

    Safe in several processes at once; each then compiles for itself, and the cache keeps the last.
    """
    task = Task(
        name="warm_up",
        text="",
        rewards=(Reward("kill_entity", ("cow",), 1.0, 1),),
        time_limit_ticks=10,
        inventory=(Item(0, "iron_sword"),),
        mobs=(Mobs("cow", 1),),
    )
    env = WorldEnv(task, num_envs=1, image_size=(16, 16), seed=0)
    env.reset(np.ones(1, np.bool_))
    env.step({"buttons": np.zeros(1, np.int64), "camera": np.zeros(1, np.int64)}, np.ones(1, np.bool_))
