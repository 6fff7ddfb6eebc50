"""A task in MineStudio's own terms: the callbacks of a `MinecraftSim`.

Imports MineStudio: for the simulator's process only.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from minestudio.simulator.callbacks import (
    CommandsCallback,
    FastResetCallback,
    GateRewardsCallback,
    JudgeResetCallback,
    MaskActionsCallback,
    MinecraftCallback,
    RewardsCallback,
    SummonMobsCallback,
    VoxelsCallback,
)

from mineonline.envs.actions import GROUPS, group_of
from mineonline.envs.arrays import mismatch
from mineonline.envs.contract import TensorSpec
from mineonline.envs.opening import biomes_of, inventory_commands
from mineonline.envs.tasks import ActionMask, Reward, Task
from mineonline.imports import make


class EngineError(Exception):
    """The engine does not answer; MineStudio returns a random observation instead."""


class CallbackError(Exception):
    """A user's callback is wrong; the text says which, how and where."""


class EngineWatch(MinecraftCallback):  # type: ignore[misc]
    """Runs before all other callbacks, so that none sees what MineStudio makes up when the engine is gone."""

    def after_reset(self, sim: Any, obs: Any, info: Any) -> Any:
        check_engine(info)
        return obs, info

    def after_step(self, sim: Any, obs: Any, reward: float, terminated: bool, truncated: bool, info: Any) -> Any:
        check_engine(info)
        return obs, reward, terminated, truncated, info


def check_engine(info: Any) -> None:
    """EngineError if MineStudio reports that the engine is gone."""
    if "error" in info:
        raise EngineError(f"the engine does not answer: {info['error']}")


class Watched(MinecraftCallback):  # type: ignore[misc]
    """A user's callback: an exception or a wrong return value becomes a CallbackError with its name.

    What MineStudio or the engine raises inside it (it may send commands) passes through unchanged.
    """

    def __init__(self, callback: MinecraftCallback) -> None:
        self.callback = callback

    def before_reset(self, sim: Any, reset_flag: bool) -> bool:
        return bool(self._call("before_reset", sim, reset_flag))

    def after_reset(self, sim: Any, obs: Any, info: Any) -> Any:
        known = {*info}
        return self._checked("after_reset", self._call("after_reset", sim, obs, info), 2, known)

    def before_step(self, sim: Any, action: Any) -> Any:
        found = self._call("before_step", sim, action)
        if not isinstance(found, dict):
            raise self._wrong("before_step", f"returned {found!r:.100}, but must return the action, a dict")
        return found

    def after_step(self, sim: Any, obs: Any, reward: float, terminated: bool, truncated: bool, info: Any) -> Any:
        known = {*info}
        found = self._call("after_step", sim, obs, reward, terminated, truncated, info)
        found = self._checked("after_step", found, 5, known)
        try:
            float(found[1])
        except (TypeError, ValueError):
            raise self._wrong("after_step", f"returned the reward {found[1]!r:.100}, which is not a number") from None
        return found

    def before_close(self, sim: Any) -> None:
        self._call("before_close", sim)

    def after_close(self, sim: Any) -> None:
        self._call("after_close", sim)

    def _call(self, hook: str, *arguments: Any) -> Any:
        try:
            return getattr(self.callback, hook)(*arguments)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            if "/minestudio/simulator/minerl/" in where.filename:
                raise
            text = f"raised {type(error).__name__}: {error} (in {where.filename}, line {where.lineno})"
            raise self._wrong(hook, text) from error

    def _checked(self, hook: str, found: Any, size: int, known: set[str]) -> Any:
        """`known`: keys that the info had before the callback."""
        if not isinstance(found, tuple) or len(found) != size:
            raise self._wrong(hook, f"returned {found!r:.100}, but must return {size} values, like those that it got")
        observation, info = found[0], found[-1]
        if not isinstance(observation, dict) or not isinstance(info, dict):
            raise self._wrong(hook, "must return the observation first and the info last, both dicts")
        lost = sorted(({"image"} - observation.keys()) | (known - info.keys()))
        if lost:
            raise self._wrong(hook, f"must keep what is in the observation and the info, but {lost[0]!r} is gone")
        return found

    def _wrong(self, hook: str, text: str) -> CallbackError:
        kind = type(self.callback)
        return CallbackError(
            f"the callback {kind.__module__}.{kind.__name__}: its {hook} {text}. Fix it, or remove it from "
            "task.callbacks."
        )


class AddedReward(MinecraftCallback):  # type: ignore[misc]
    """Adds the reward of a callback to the reward so far: MineStudio's own callbacks overwrite it."""

    def __init__(self, callback: MinecraftCallback) -> None:
        self.callback = callback

    def after_reset(self, sim: Any, obs: Any, info: Any) -> Any:
        return self.callback.after_reset(sim, obs, info)

    def after_step(self, sim: Any, obs: Any, reward: float, terminated: bool, truncated: bool, info: Any) -> Any:
        obs, own, terminated, truncated, info = self.callback.after_step(sim, obs, 0.0, terminated, truncated, info)
        return obs, reward + own, terminated, truncated, info


class UnitRewardsCallback(MinecraftCallback):  # type: ignore[misc]
    """`Reward.per_unit`, which MineStudio lacks: pays for every unit by which a rule's counters went up in a tick."""

    def __init__(self, rule: Reward) -> None:
        self.rule = rule

    def after_reset(self, sim: Any, obs: Any, info: Any) -> Any:
        self.seen = self._total(info)
        self.left = float(self.rule.max_reward_times)
        return obs, info

    def after_step(self, sim: Any, obs: Any, reward: float, terminated: bool, truncated: bool, info: Any) -> Any:
        total = self._total(info)
        units = min(max(0.0, total - self.seen), self.left)
        self.seen = total
        self.left -= units
        return obs, units * self.rule.reward, terminated, truncated, info

    def _total(self, info: Any) -> float:
        return sum(float(info[self.rule.event].get(thing, 0)) for thing in self.rule.objects)


def callbacks_of(task: Task) -> list[MinecraftCallback]:
    """All callbacks of a task, in order; its own `callbacks` come last, with only the time limit after them.

    ConfigError if one of its own cannot be made.
    """
    found: list[MinecraftCallback] = [EngineWatch()]
    if task.reset == "new_terrain":
        found.append(FastResetCallback(biomes=biomes_of(task), random_tp_range=task.random_tp_range))
    if task.inventory:
        found.append(CommandsCallback(list(inventory_commands(task))))
    if task.mobs:
        found.append(
            SummonMobsCallback([
                {"name": m.name, "number": m.number, "range_x": list(m.range_x), "range_z": list(m.range_z)}
                for m in task.mobs
            ])
        )  # fmt: skip
    if task.commands:
        found.append(CommandsCallback(list(task.commands)))
    mask = mask_of(task.actions)
    if mask:
        found.append(MaskActionsCallback(**mask))
    for index, rule in enumerate(task.rewards):
        found.append(AddedReward(_reward(rule, index)))
    if task.portal_reward:
        found.append(VoxelsCallback())
        found.append(AddedReward(GateRewardsCallback()))
    found += [Watched(make(f"task.callbacks[{index}]", settings)) for index, settings in enumerate(task.callbacks)]
    found.append(JudgeResetCallback(task.time_limit_ticks))
    return found


def declared_of(
    hook: str, observation: Any, declared: Mapping[str, TensorSpec], callbacks: Sequence[Mapping[str, Any]]
) -> dict[str, bytes]:
    """The arrays of `env.observations` in MineStudio's observation after `hook` of all callbacks, row by row.

    CallbackError if one is absent, not finite, or has another shape or dtype than declared.
    """
    found = {}
    for name, spec in declared.items():
        problem = mismatch(observation[name], spec) if name in observation else "is absent"
        if problem:
            writers = ", ".join(str(callback["_target_"]) for callback in callbacks) or "none"
            raise CallbackError(
                f"env.observations.{name}: obs[{name!r}] {problem} after the {hook} of the callbacks (task.callbacks: "
                f"{writers}). Write it in both after_reset and after_step, or change env.observations."
            )
        found[name] = np.asarray(observation[name]).tobytes()
    return found


def mask_of(actions: ActionMask) -> dict[str, Any]:
    """The keys that a task never presses (0) or always presses (1), by MineStudio's names."""
    mask: dict[str, Any] = {}
    for name in actions.forbid:
        if name == "camera":
            mask[name] = np.zeros(2)
        else:
            mask.update(dict.fromkeys(GROUPS["hotbar"][1:] if name == "hotbar" else (name,), 0))
    for name in actions.hold:
        # of keys that exclude one another, the held one wins
        mask.update(dict.fromkeys(GROUPS[group_of(name)][1:], 0))
        mask[name] = 1
    return mask


def _reward(rule: Reward, index: int) -> MinecraftCallback:
    if rule.per_unit:
        return UnitRewardsCallback(rule)
    return RewardsCallback([{
        "event": rule.event, "objects": list(rule.objects), "reward": rule.reward,
        "max_reward_times": rule.max_reward_times, "identity": rule.identity or str(index),
    }])  # fmt: skip
