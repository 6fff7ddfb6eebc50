"""The embedded world as an environment: N worlds behind the contract of `mineonline.envs.contract`.

Axes: N worlds, H height, W width, C channels, R reward rules, K statistics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import (
    CAMERA_DEGREES,
    GROUP_NAMES,
    NUM_BUTTONS,
    NUM_CAMERA,
    checked_classes,
    masked_buttons,
)
from mineonline.envs.contract import Action, EnvSpec, Observation, Step, TensorSpec
from mineonline.envs.opening import SETTLE_TICKS, episode_seed, first_time_limit, mission_seed, opening
from mineonline.envs.tasks import Item, Mobs, Reward, Task
from mineonline.envs.world.art import load_art
from mineonline.envs.world.commands import refuse_unknown
from mineonline.envs.world.draw import draw, draw_one
from mineonline.envs.world.info import Bounds, Info, info_of
from mineonline.envs.world.jit import progress
from mineonline.envs.world.session import idle, say, start_mission
from mineonline.envs.world.state import COUNTERS, new_world
from mineonline.envs.world.tick import Rules, Scores, advance

_CAMERA_GROUP, _ATTACK_GROUP, _DROP_GROUP = (GROUP_NAMES.index(name) for name in ("camera", "attack", "drop"))


class WorldEnv:
    """N worlds of one task, stepped together in the calling thread, without the GIL.

    `image_size` is (width, height). An episode is determined by `seed`, the global index (`first_index` + n) and the
    episode's count, and starts as `mineonline.envs.opening` says. Keys mean what they mean on MineStudio's engine,
    which is never sent `drop`. With `stagger`, the first episode of each world starts at a random phase of its time
    limit, so that the worlds do not all reach their limits together. `on_tick` is called after every tick of a
    decision, for example to record a video with `render`.
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
        self.waiting_N = np.zeros(num_envs, np.bool_)
        self.on_tick = on_tick
        self._task, self._seed, self._first_index, self._stagger = task, seed, first_index, stagger
        self._rules = rules_of(task)
        self._choice, self._last_choice = _choices_of(task)
        self._statistics = np.array([COUNTERS[pair] for pair in task.counted()], np.int64)
        self._art = load_art()
        width, height = image_size
        self.world = new_world(num_envs, _most_mobs(task))
        self._scores = _new_scores(num_envs, self._rules)
        self._episode = np.zeros(num_envs, np.int64)
        self._image = np.zeros((num_envs, height, width, 3), np.uint8)
        self._depth = np.zeros((height, width), np.float32)

    @staticmethod
    def spec_of(task: Task, image_size: tuple[int, int]) -> EnvSpec:
        """What a policy must know to be built for a task; starts nothing.

        ConfigError if the task has callbacks, or a command that this world does not know.
        """
        refuse_unknown(task)
        width, height = image_size
        return EnvSpec(
            observation={"image": TensorSpec((height, width, 3), "uint8")},
            action={"buttons": NUM_BUTTONS, "camera": NUM_CAMERA},
            statistics=task.statistics(),
        )

    def reset(self, which_N: NDArray[np.bool_]) -> Observation:
        """Start a new episode in the worlds of `which_N`."""
        for n in np.flatnonzero(which_N).tolist():
            self._open(n, self._first_index + n, int(self._episode[n]))
            self._episode[n] += 1
        draw(self.world, self._art, np.asarray(which_N, np.bool_), self._image, self._depth)
        return {"image": self._image}

    def step(self, action: Action, active_N: NDArray[np.bool_]) -> Step:
        """Run `task.action_repeat` ticks in every active world, fewer where an episode ends earlier."""
        active_N = np.asarray(active_N, np.bool_)
        buttons = checked_classes(action["buttons"], NUM_BUTTONS, "buttons")
        choice_NG, last_choice_NG = self._choice[buttons], self._last_choice[buttons]
        moves = choice_NG[:, _CAMERA_GROUP, None] == 1
        camera_N2 = np.where(moves, CAMERA_DEGREES[checked_classes(action["camera"], NUM_CAMERA, "camera")], 0.0)
        repeat = self._task.action_repeat
        stops = [*range(1, repeat)] if self.on_tick else []
        first = 0
        for end in (*stops, repeat):
            advance(
                self.world, self._rules, self._scores, choice_NG, last_choice_NG, camera_N2, active_N,
                first, end, repeat,
            )  # fmt: skip
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
            statistics_NK=self._totals(),
        )

    def render(self, n: int, width: int, height: int) -> NDArray[np.uint8]:
        """What the player of world n sees now, `[height, width, 3]`; changes nothing."""
        image = np.zeros((height, width, 3), np.uint8)
        draw_one(self.world, self._art, n, image, np.zeros((height, width), np.float32))
        return image

    def infos(self, *, voxels: Bounds | None = None, mobs: Bounds | None = None) -> list[Info]:
        """MineStudio's info of each world, with the blocks and the mobs within bounds. Slow: about 0.3 ms each."""
        return [info_of(self.world, n, voxels, mobs) for n in range(self.num_envs)]

    def close(self) -> None:
        """Nothing to free."""

    def _open(self, n: int, index: int, episode: int) -> None:
        """Start an episode of world n as MinecraftSim does, and only then set its ticks and counters to 0."""
        seed, task = self._seed, self._task
        said = opening(task, episode_seed(seed, index, episode))
        if episode == 0 or task.reset == "same_terrain":
            start_mission(self.world, n, mission_seed(seed, index), task.biome, task.spawn_near)
        else:
            say(self.world, n, said.fast_reset_commands)
        idle(self.world, n, SETTLE_TICKS)
        say(self.world, n, said.commands)
        limit = task.time_limit_ticks
        player = self.world.player[n]
        player["tick"] = 0
        player["time_limit"] = first_time_limit(seed, index, limit) if self._stagger and episode == 0 else limit
        self.world.counter[n] = 0.0
        self._scores.seen[n], self._scores.paid[n], self._scores.portal[n] = 0.0, 0.0, 0.0

    def _totals(self) -> NDArray[np.float32]:
        """[N, K] the statistics of the current episodes so far."""
        totals = self.world.counter[:, self._statistics]
        if self._rules.portal:
            totals = np.concatenate([totals, self._scores.portal[:, None]], axis=1)
        return totals.astype(np.float32)


def _choices_of(task: Task) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`[8641, G]` the choices of a button class under a task's mask: in a decision's ticks, and in its last tick."""
    choice = masked_buttons(task.actions.forbid, task.actions.hold)
    choice[:, _DROP_GROUP] = 0
    last = choice.copy()
    if task.action_repeat > 1 and "attack" not in task.actions.hold:
        last[:, _ATTACK_GROUP] = 0
    return choice, last


def _most_mobs(task: Task) -> int:
    """The number of mobs that are summoned at the start; nothing else adds any."""
    return sum(mobs.number for mobs in task.mobs) + sum("summon" in command for command in task.commands)


def rules_of(task: Task) -> Rules:
    """A task's rewards as arrays."""
    most_objects = max((len(rule.objects) for rule in task.rewards), default=1)
    column = np.full((len(task.rewards), most_objects), -1, np.int64)
    for r, rule in enumerate(task.rewards):
        column[r, : len(rule.objects)] = [COUNTERS[rule.event, thing] for thing in rule.objects]
    return Rules(
        column=column,
        reward=np.array([rule.reward for rule in task.rewards], np.float64),
        most=np.array([rule.max_reward_times for rule in task.rewards], np.float64),
        per_unit=np.array([rule.per_unit for rule in task.rewards], np.bool_),
        portal=task.portal_reward,
    )


def _new_scores(num_worlds: int, rules: Rules) -> Scores:
    return Scores(
        reward=np.zeros(num_worlds, np.float32),
        terminated=np.zeros(num_worlds, np.bool_),
        truncated=np.zeros(num_worlds, np.bool_),
        seen=np.zeros((num_worlds, *rules.column.shape)),
        paid=np.zeros((num_worlds, len(rules.reward))),
        portal=np.zeros(num_worlds),
    )


def warm_up(say: Callable[[str], None] = lambda text: None) -> None:
    """Compile all kernels, or load them from the cache: call it once before workers start. `say` hears how far it is.

    Safe in several processes at once; each then compiles for itself, and the cache keeps the last result.
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
    with progress(say):
        # twice: the second episode starts differently from the first
        env.reset(np.ones(1, np.bool_))
        env.reset(np.ones(1, np.bool_))
        env.step({"buttons": np.zeros(1, np.int64), "camera": np.zeros(1, np.int64)}, np.ones(1, np.bool_))
