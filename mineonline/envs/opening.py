"""How an episode opens, both in the embedded world and on MineStudio's engine: seeds, chat commands, random draws.

An environment's first episode starts with a mission: new land from a seed, `SETTLE_TICKS` ticks without a key, then
one command per tick. Later episodes of a task with `reset: new_terrain` start with MineStudio's FastResetCallback
instead, which sends `fast_reset_commands`, one per tick. No numba here: the simulator's process imports this too.
"""

from __future__ import annotations

import random

import msgspec
import numpy as np

from mineonline.envs.names import BIOMES
from mineonline.envs.tasks import Task, slot_number

SETTLE_TICKS = 20
"""Ticks without a key after the land is made (MinecraftSim's `num_empty_frames`)."""

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_64_BITS = 0xFFFFFFFFFFFFFFFF
# keeps the different seeds of one environment apart
_MISSION, _EPISODE, _STAGGER = 0, 1, 2


class Opening(msgspec.Struct, frozen=True):
    """The commands sent at the start of an episode, one per tick."""

    fast_reset_commands: tuple[str, ...]
    """FastResetCallback's, instead of a mission; the settling ticks follow."""
    commands: tuple[str, ...]
    """After the settling ticks: the inventory, then SummonMobsCallback's mobs, then the task's own commands."""


def opening(task: Task, s: int) -> Opening:
    """The commands of the episode with seed `s` (see `episode_seed`).

    They are the ones that MineStudio's callbacks send after `random.seed(s)`, `np.random.seed(s & 0xffffffff)` and
    `sim.np_random = np.random.default_rng(s)`.
    """
    biome = random.Random(s).choice(biomes_of(task))
    dice, reach = np.random.RandomState(s & 0xFFFFFFFF), task.random_tp_range
    x, z = (dice.randint(-reach // 2, reach // 2) for _ in "xz")
    return Opening(
        fast_reset_commands=(
            "/kill",
            "/time set 0",
            "/weather clear",
            "/kill @e[type=!player]",
            "/kill @e[type=item]",
            f"/teleportbiome @a {biome} {x} ~0 {z}",
        ),
        commands=(*inventory_commands(task), *_summons(task, s), *task.commands),
    )


def biomes_of(task: Task) -> list[str]:
    """The biomes that a fast reset draws from."""
    return [task.biome] if task.biome is not None else list(BIOMES)


def inventory_commands(task: Task) -> tuple[str, ...]:
    """InitInventoryCallback's command for each stack of the task's inventory, in order."""
    return tuple(
        f"/replaceitem entity @p {_slot_name(slot_number(stack.slot))} minecraft:{stack.item} {stack.count}"
        for stack in task.inventory
    )


def _slot_name(slot: int) -> str:
    if slot in (0, 40):
        return "weapon.mainhand" if slot == 0 else "weapon.offhand"
    if slot < 9:
        return f"hotbar.{slot}"
    return f"inventory.{slot - 9}" if slot < 36 else f"armor.{('feet', 'legs', 'chest', 'head')[slot - 36]}"


def _summons(task: Task, s: int) -> list[str]:
    dice, commands = np.random.default_rng(s), []
    for mobs in task.mobs:
        for _ in range(mobs.number):
            x, z = dice.uniform(*mobs.range_x), dice.uniform(*mobs.range_z)
            commands.append(f"/execute as @p at @p run summon minecraft:{mobs.name} ~{x} ~3 ~{z} {{Age:0}}")
    return commands


def mission_seed(seed: int, index: int, episode: int = 0) -> int:
    """The seed of a mission, 0 to 2**31 - 1: a range that every layer of MineStudio accepts.

    `index` is the environment's global index. `episode` is the episode that the mission starts: the first (0), or a
    later one if its engine was restarted or reset.
    """
    return mixed(seed, index, 3 * episode + _MISSION) >> 33


def episode_seed(seed: int, index: int, episode: int) -> int:
    """The `s` of `opening`, 0 to 2**63 - 1."""
    return mixed(seed, index, 3 * episode + _EPISODE) >> 1


def first_time_limit(seed: int, index: int, limit_ticks: int) -> int:
    """The time limit of a staggered environment's first episode, 1 to `limit_ticks` ticks."""
    return 1 + mixed(seed, index, _STAGGER) % limit_ticks


def mixed(*numbers: int) -> int:
    """64 bits, each of which depends on every bit of the numbers and on their order (splitmix64)."""
    state = 0
    for number in numbers:
        state = (state + _GOLDEN + number) & _64_BITS
        state = ((state ^ (state >> 30)) * _MIX_1) & _64_BITS
        state = ((state ^ (state >> 27)) * _MIX_2) & _64_BITS
        state ^= state >> 31
    return state
