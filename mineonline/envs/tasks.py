"""A task is data, in MineStudio's terms: it means the same in the embedded world and in the real simulator.

`parse_task` turns a mapping (a file of `conf/task/`) into a `Task`, or says which key is wrong, what its value
is and what is allowed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from mineonline.envs import names
from mineonline.envs.actions import BUTTON_NAMES, GROUPS, group_of
from mineonline.errors import ConfigError

TICK_S = 0.05
"""How long a tick of the game lasts for its player, in seconds."""
PORTAL_SCORE = "portal_score"
ARMOUR_SLOTS = ("feet", "legs", "chest", "head", "offhand")
"""Slots 36 to 40, in this order."""


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stack that the player starts with (MineStudio's InitInventoryCallback)."""

    slot: int | Literal["feet", "legs", "chest", "head", "offhand"]
    """0 to 8 is the hotbar, 9 to 35 the rest of the inventory; armour and the off hand are given by name."""
    item: str
    """A name of `mineonline.envs.names.ITEMS`."""
    count: int = 1
    """1 to 64 items."""


class Mobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Animals that appear around the player at the start (MineStudio's SummonMobsCallback)."""

    name: str
    """A name of `mineonline.envs.names.MOBS`."""
    number: int
    """How many, 1 to 64."""
    range_x: tuple[float, float] = (-5.0, 5.0)
    """Least and greatest distance from the player along x, in blocks; uniform in between."""
    range_z: tuple[float, float] = (-5.0, 5.0)
    """The same along z."""


class ActionMask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Buttons that the task decides instead of the player (MineStudio's MaskActionsCallback)."""

    forbid: tuple[str, ...] = ()
    """Names of `mineonline.envs.actions.BUTTON_NAMES` that are never pressed, whatever the action says."""
    hold: tuple[str, ...] = ()
    """Names that are pressed in every tick, whatever the action says."""


class Reward(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of MineStudio's RewardsCallback: it pays when a counter in the player's info goes up.

    Once per tick, it pays `reward` if the counters of its objects went up at all. With `per_unit`, which MineStudio
    lacks, it pays `reward` for each unit by which they went up.
    """

    event: str
    """A name of `mineonline.envs.names.EVENTS`: the kind of counter."""
    objects: tuple[str, ...]
    """Whose counters, for example `[cow, sheep]`."""
    reward: float
    """Paid each time, or for each unit; negative is a penalty."""
    max_reward_times: int
    """The most payments (or units) in an episode, at least 1; later ones pay nothing."""
    per_unit: bool = False
    """Pay per unit, for example per hp of `damage_dealt`, rather than per occurrence."""
    identity: str = ""
    """A readable name; empty means event and objects."""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the player starts with, may do and is paid for, and how long an episode lasts."""

    name: str
    """A short name, used in metrics and file names."""
    text: str
    """The instruction, in words."""
    rewards: tuple[Reward, ...]
    """Their payments add up. At least one, unless `portal_reward` is set."""
    time_limit_ticks: int
    """An episode is truncated after this many ticks (20 per second); MineStudio's quick start uses 600."""
    biome: str | None = None
    """Preferred spawn biome, a name of `mineonline.envs.names.BIOMES`; None: any of them, drawn for each terrain."""
    inventory: tuple[Item, ...] = ()
    """What the player starts with; the first hotbar slot is in hand."""
    mobs: tuple[Mobs, ...] = ()
    """Animals around the player at the start."""
    commands: tuple[str, ...] = ()
    """Chat commands sent after the start, one per tick, for example `/give @p minecraft:bow 1` (MineStudio's
    CommandsCallback). The embedded world knows those of `mineonline.envs.world.commands`, the real engine all."""
    actions: ActionMask = ActionMask()
    """Which buttons are forbidden or held."""
    portal_reward: bool = False
    """Pay, each tick, the rise in the score of the best obsidian portal frame within 7 blocks (MineStudio's
    GateRewardsCallback): a point for each of its 14 blocks and another each for the 13th and the 14th, less a point for
    each obsidian block inside it and a tenth of a point for each obsidian block within reach."""
    action_repeat: int = 1
    """Ticks that one decision lasts, 1 to 20. The camera moves in the first only. With more than one, `attack` is
    released in the last, unless `actions.hold` holds it: each decision that attacks is a new click, and starts mining
    from scratch."""
    reset: Literal["new_terrain", "same_terrain"] = "new_terrain"
    """`new_terrain`: each episode has its own terrain (from MineStudio's FastResetCallback after the first).
    `same_terrain`: each environment returns to its first terrain."""
    random_tp_range: int = 1000
    """The most that new terrains are apart, in blocks along x and z (FastResetCallback's), 2 to 1,000,000."""
    spawn_near: str | None = None
    """A block, for example `oak_log`, that the player starts next to and looks at. None: it starts in the open.
    Embedded world only: env=minestudio ignores it."""
    callbacks: tuple[dict[str, Any], ...] = ()
    """MineStudio callbacks, each given by its `_target_` and arguments; they run after those of the keys above. For
    env=minestudio only: the embedded world refuses such a task."""
    success: tuple[dict[str, float], ...] = ()
    """What makes an episode a success, for example `[{kill_entity/cow: 1}]`: at its end, all events in one of these
    have been counted so many times. They need not be paid for. Empty: the task has no notion of success."""
    vector: tuple[float, ...] = ()
    """What a policy sees of the task in a run of several, for example an embedding of `text`: as many numbers in every
    task. Empty: only the task's index."""

    def rewarded(self) -> tuple[tuple[str, str], ...]:
        """(event, object) pairs that the rewards look at, each once, in order."""
        return tuple(dict.fromkeys((rule.event, thing) for rule in self.rewards for thing in rule.objects))

    def counted(self) -> tuple[tuple[str, str], ...]:
        """(event, object) pairs that are counted: those of the rewards, then those of `success` alone."""
        goals = (name.partition("/") for goal in self.success for name in goal if name != PORTAL_SCORE)
        return tuple(dict.fromkeys((*self.rewarded(), *((event, thing) for event, _, thing in goals))))

    def statistics(self) -> tuple[str, ...]:
        """Names of what is counted in an episode, for example `kill_entity/cow`."""
        portal = (PORTAL_SCORE,) if self.portal_reward else ()
        return (*(f"{event}/{thing}" for event, thing in self.counted()), *portal)

    def succeeded(self, statistics: Mapping[str, float]) -> bool | None:
        """Whether an episode with these totals was a success; None if the task has no notion of it.

        Also None where the environment does not count what it takes (`env=synthetic`).
        """
        if not self.success or not all(goal.keys() <= statistics.keys() for goal in self.success):
            return None
        return any(all(statistics[name] >= least for name, least in goal.items()) for goal in self.success)


def parse_task(data: Any) -> Task:
    """The task that a mapping describes. ConfigError names the key's path, what was found and what is allowed."""
    try:
        task = msgspec.convert(data, Task)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), data)) from None
    _check_ranges(task)
    _check_names(task)
    _check_held(task.actions.hold)
    _check_words(task)
    return task


def slot_number(slot: int | str) -> int:
    """MineStudio's number of a slot: 0 to 35 as given, 36 feet, 37 legs, 38 chest, 39 head, 40 off hand."""
    return slot if isinstance(slot, int) else 36 + ARMOUR_SLOTS.index(slot)


def _check_names(task: Task) -> None:
    if task.biome is not None:
        _known("biome", task.biome, names.BIOMES, "biome")
    if task.spawn_near is not None:
        _known("spawn_near", task.spawn_near, names.BLOCKS[1:], "block")
    for i, stack in enumerate(task.inventory):
        _known(f"inventory[{i}].item", stack.item, names.ITEMS[1:], "item")
    for i, mobs in enumerate(task.mobs):
        _known(f"mobs[{i}].name", mobs.name, names.MOBS, "mob")
    for which, buttons in (("forbid", task.actions.forbid), ("hold", task.actions.hold)):
        for i, button in enumerate(buttons):
            _known(f"actions.{which}[{i}]", button, BUTTON_NAMES, "button")
    for i, rule in enumerate(task.rewards):
        _known(f"rewards[{i}].event", rule.event, tuple(names.EVENTS), "event")
        for j, thing in enumerate(rule.objects):
            _known(f"rewards[{i}].objects[{j}]", thing, names.EVENTS[rule.event], f"object of {rule.event}")
    for i, goal in enumerate(task.success):
        for name in goal:
            if name == PORTAL_SCORE and task.portal_reward:
                continue
            event, _, thing = name.partition("/")
            _known(f"success[{i}].{name}", event, tuple(names.EVENTS), "event")
            _known(f"success[{i}].{name}", thing, names.EVENTS[event], f"object of {event}")


def _check_words(task: Task) -> None:
    """Checks only what holds for every engine: the real one has more commands and callbacks than can be listed here."""
    for i, command in enumerate(task.commands):
        if not command.startswith("/"):
            raise ConfigError(
                f"task.commands[{i}] is {command!r}, but a chat command starts with a slash, for example "
                f"'/give @p minecraft:bow 1'."
            )
    for i, callback in enumerate(task.callbacks):
        target = callback.get("_target_")
        if not isinstance(target, str) or not target:
            found = f"_target_ {target!r}" if "_target_" in callback else f"only {_listed(callback) or 'nothing'}"
            raise ConfigError(
                f"task.callbacks[{i}] has {found}, but it must name a class in _target_, for example "
                f"minestudio.simulator.callbacks.SpeedTestCallback."
            )


def _check_held(buttons: tuple[str, ...]) -> None:
    """A button class makes one choice in each group, and `inventory` excludes all others."""
    if "inventory" in buttons and set(buttons) != {"inventory"}:
        raise ConfigError(f"task.actions.hold is {list(buttons)}, but inventory excludes every other button.")
    held: dict[str, str] = {}
    for i, button in enumerate(buttons):
        group = group_of(button)
        if group in held:
            raise ConfigError(
                f"task.actions.hold[{i}] is {button!r}, but {held[group]!r} is held too, and only one of "
                f"{_listed(GROUPS[group][1:])} can be pressed at a time."
            )
        held[group] = button


def _check_ranges(task: Task) -> None:
    _within("time_limit_ticks", task.time_limit_ticks, 1, 1_000_000)
    _within("action_repeat", task.action_repeat, 1, 20)
    # RandomState.randint needs at least one number between the ends
    _within("random_tp_range", task.random_tp_range, 2, 1_000_000)
    if not task.portal_reward:
        _not_empty(
            "rewards",
            task.rewards,
            "a list of at least one {event, objects, reward, max_reward_times}, unless portal_reward is true",
        )
    for i, rule in enumerate(task.rewards):
        _not_empty(f"rewards[{i}].objects", rule.objects, "a list of at least one object")
        _within(f"rewards[{i}].max_reward_times", rule.max_reward_times, 1, 1_000_000)
    taken: dict[int, int] = {}
    for i, stack in enumerate(task.inventory):
        _within(f"inventory[{i}].count", stack.count, 1, 64)
        slot = slot_number(stack.slot)
        _within(f"inventory[{i}].slot", slot, 0, 40)
        if slot in taken:
            raise ConfigError(
                f"task.inventory[{i}].slot is {stack.slot!r}, but task.inventory[{taken[slot]}] is "
                f"there already; give each stack its own slot, 0 to 35 or {_listed(ARMOUR_SLOTS)}."
            )
        taken[slot] = i
    for i, mobs in enumerate(task.mobs):
        _within(f"mobs[{i}].number", mobs.number, 1, 64)
        for axis, (least, most) in (("range_x", mobs.range_x), ("range_z", mobs.range_z)):
            if not -24 <= least <= most <= 24:
                raise ConfigError(
                    f"task.mobs[{i}].{axis} is [{least:g}, {most:g}], but it must be [least, greatest] "
                    f"with -24 <= least <= greatest <= 24 blocks."
                )
    both = set(task.actions.forbid) & set(task.actions.hold)
    if both:
        raise ConfigError(
            f"task.actions.hold is {list(task.actions.hold)} and task.actions.forbid is "
            f"{list(task.actions.forbid)}: {_listed(sorted(both))} may be in only one of them."
        )


def _within(path: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        raise ConfigError(f"task.{path} is {found}, but it must be {least} to {most}.")


def _not_empty(path: str, found: tuple[Any, ...], expected: str) -> None:
    if not found:
        raise ConfigError(f"task.{path} is empty, but it must be {expected}.")


def _known(path: str, found: str, known: tuple[str, ...], kind: str) -> None:
    if found not in known:
        raise ConfigError(
            f"task.{path} is {found!r}, which is not a known {kind}.{_did_you_mean(found, known)} "
            f"There are: {_listed(known)}."
        )


def _did_you_mean(found: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(found, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _explain(complaint: str, data: Any) -> str:
    """msgspec's complaint ("... - at `$.rewards[0].event`") with the value at that path and what is allowed."""
    problem, _, at = complaint.partition(" - at ")
    path = at.strip("`").removeprefix("$").removeprefix(".")
    where = "task" if not path else f"task[{path[1:]}" if path.startswith("[") else f"task.{path}"
    found = _value_at(data, path)
    quoted = re.search(r"field `([^`]*)`", problem)
    if quoted is None:
        parent, _, key = path.rpartition(".")
        words = _words_of(_fields_at(parent)[key]) if "enum" in problem else ()
        expected = f"it must be one of: {_listed(words)}" if words else f"{problem[0].lower()}{problem[1:]}"
        return f"{where} is {found!r}: {expected}."
    key, fields = quoted[1], _fields_at(path)
    if "unknown field" in problem:
        return (
            f"{where}.{key} is {found[key]!r}, but there is no such key.{_did_you_mean(key, fields)} "
            f"There are: {_listed(fields)}."
        )
    return (
        f"{where}.{key} is missing: found only {_listed(map(str, found)) or 'nothing'}. "
        f"It must be {_readable(fields[key])}."
    )


def _value_at(data: Any, path: str) -> Any:
    for step in re.findall(r"[^.\[\]]+", path):
        data = data[int(step)] if isinstance(data, (list, tuple)) else data[step]
    return data


def _fields_at(path: str) -> dict[str, Any]:
    """Key -> type, of the struct at a path."""
    struct: Any = Task
    for step in re.findall(r"[^.\[\]]+", path):
        if not step.isdigit():
            hint = get_type_hints(struct)[step]
            struct = get_args(hint)[0] if get_args(hint) else hint
    return get_type_hints(struct)


def _readable(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)).replace("mineonline.envs.tasks.", "")


def _words_of(hint: Any) -> tuple[str, ...]:
    """The words that a type allows, also within unions."""
    return tuple(word for part in get_args(hint) for word in ((part,) if isinstance(part, str) else _words_of(part)))
