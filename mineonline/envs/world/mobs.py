"""Cows, pigs and sheep: they stroll, flee when hit, die, and drop their remains."""

from __future__ import annotations

import math

import numpy as np

from mineonline.envs.names import MOBS
from mineonline.envs.world.blocks import ITEM_ID
from mineonline.envs.world.chance import below, uniform
from mineonline.envs.world.inventory import lay_down
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.physics import (
    PLAYER_HALF_WIDTH,
    PLAYER_HEIGHT,
    Blocks,
    drop_negligible,
    fall_and_slow,
    is_water,
    move_body,
    push,
)
from mineonline.envs.world.state import COUNTERS, Counter, Record, Records, first_column

# half width and height in blocks, health in hp, by kind
_BODY = {"cow": (0.45, 1.4, 10.0), "pig": (0.45, 0.9, 10.0), "sheep": (0.45, 1.3, 8.0)}
BODY = np.array([_BODY[name] for name in MOBS])
# two drops per kind: item, least, most
_REMAINS = {
    "cow": (("beef", 1, 3), ("leather", 0, 2)),
    "pig": (("porkchop", 1, 3), ("stick", 0, 0)),
    "sheep": (("mutton", 1, 2), ("white_wool", 1, 1)),
}
REMAINS = np.array([[(ITEM_ID[item], least, most) for item, least, most in _REMAINS[name]] for name in MOBS], np.int64)

_KILL = first_column("kill_entity")
_HURT = first_column("damage_dealt")
_HURT_TENTHS = COUNTERS["custom", "damage_dealt"]
_MOB_KILLS = COUNTERS["custom", "mob_kills"]

_STROLL = 0.025
"""Acceleration in blocks per tick per tick, which gives about 1.1 blocks per second."""
_FLEE = 0.07
"""Gives about 3 blocks per second; a player walks at 4.3."""
_STROLL_CHANCE = 1.0 / 100.0
_PANIC_TICKS = 60
_UNHURTABLE_TICKS = 10
_DYING_TICKS = 20
_KNOCK_BACK = 0.4
_TURN_DEGREES = 12.0
_JUMP = 0.42


@kernel
def _choose_way(mob: Record, player: Record) -> None:
    """Choose a new direction now and then."""
    if mob.panic > 0:
        mob.panic -= 1
        if mob.walk == 0:
            mob.goal_yaw, mob.walk = 360.0 * uniform(player) - 180.0, 10 + below(player, 15)
    elif mob.walk == 0 and uniform(player) < _STROLL_CHANCE:
        mob.goal_yaw, mob.walk = 360.0 * uniform(player) - 180.0, 30 + below(player, 60)


@kernel
def _turn(mob: Record) -> None:
    turn = (mob.goal_yaw - mob.yaw + 540.0) % 360.0 - 180.0
    mob.yaw += max(-_TURN_DEGREES, min(_TURN_DEGREES, turn))


@kernel
def _avoid_water(block: Blocks, mob: Record) -> None:
    yaw = math.radians(mob.yaw)
    x, z = mob.x - math.sin(yaw), mob.z + math.cos(yaw)
    if is_water(block, x, mob.y - 0.5, z) and not mob.in_water:
        mob.goal_yaw = mob.yaw + 150.0


@kernel
def _keep_apart(mob: Record, player: Record) -> None:
    """Push a mob and the player gently apart if their bodies overlap."""
    dx, dz = mob.x - player.x, mob.z - player.z
    room = BODY[mob.kind, 0] + PLAYER_HALF_WIDTH
    overlap_y = mob.y < player.y + PLAYER_HEIGHT and player.y < mob.y + BODY[mob.kind, 1]
    if not overlap_y or abs(dx) >= room or abs(dz) >= room:
        return
    distance = math.sqrt(max(abs(dx), abs(dz)))
    if distance < 0.1:
        return
    strength = 0.05 * min(1.0, 1.0 / distance) / distance
    mob.vx += dx * strength
    mob.vz += dz * strength
    player.vx -= dx * strength
    player.vz -= dz * strength


@kernel
def _move_mob(block: Blocks, mob: Record, player: Record) -> None:
    drop_negligible(mob)
    mob.in_water = is_water(block, mob.x, mob.y + 0.4, mob.z)
    if mob.dying == 0:
        _choose_way(mob, player)
        if mob.walk > 0:
            mob.walk -= 1
            _avoid_water(block, mob)
            _turn(mob)
            pace = _FLEE if mob.panic > 0 else _STROLL
            # in the air a body keeps its direction and most of its speed
            push(mob, 1.0, 0.0, pace if mob.on_ground or mob.in_water else 0.2 * pace)
            mob.stride += 0.35 if mob.panic == 0 else 0.8
        if mob.in_water:
            mob.vy += 0.04
        elif mob.on_ground and mob.bumped and mob.walk > 0:
            mob.vy = _JUMP
        _keep_apart(mob, player)
    stood = mob.on_ground
    move_body(block, mob, BODY[mob.kind, 0], BODY[mob.kind, 1])
    fall_and_slow(mob, stood)


@kernel
def move_mobs(block: Blocks, mobs: Records, player: Record) -> None:
    """One tick of all mobs of a world."""
    for m in range(mobs.shape[0]):
        mob = mobs[m]
        if mob.kind < 0:
            continue
        mob.unhurtable = max(0, mob.unhurtable - 1)
        mob.hurt = max(0, mob.hurt - 1)
        _move_mob(block, mob, player)
        if mob.dying > 0:
            mob.dying -= 1
            if mob.dying == 0:
                mob.kind = -1


@kernel
def _die(mob: Record, drop: Records, player: Record, counter: Counter) -> None:
    counter[_KILL + mob.kind] += 1
    counter[_MOB_KILLS] += 1
    mob.dying = _DYING_TICKS
    for part in range(REMAINS.shape[1]):
        item, least, most = REMAINS[mob.kind, part]
        count = least + below(player, most - least + 1)
        if count > 0:
            lay_down(drop, mob.x, mob.y + 0.5, mob.z, item, count, player)


@kernel
def hurt(mob: Record, drop: Records, player: Record, counter: Counter, blow_hp: float) -> bool:
    """A blow from the player; True if it counts. For ten ticks after one, only the excess of a harder one does."""
    if mob.unhurtable > 0 and blow_hp <= mob.last_blow:
        return False
    counts = blow_hp - mob.last_blow if mob.unhurtable > 0 else blow_hp
    fresh = mob.unhurtable == 0
    mob.last_blow = blow_hp
    dealt = min(counts, float(mob.health))
    mob.health -= dealt
    counter[_HURT + mob.kind] += dealt
    counter[_HURT_TENTHS] += math.floor(10.0 * dealt + 0.5)
    if fresh:
        mob.unhurtable, mob.hurt = _UNHURTABLE_TICKS, _UNHURTABLE_TICKS
        _knock_back(mob, player)
    mob.panic, mob.walk = _PANIC_TICKS, 0
    if mob.health <= 0:
        _die(mob, drop, player, counter)
    return True


@kernel
def _knock_back(mob: Record, player: Record) -> None:
    dx, dz = mob.x - player.x, mob.z - player.z
    length = max(1e-6, math.sqrt(dx * dx + dz * dz))
    mob.vx = mob.vx / 2 + _KNOCK_BACK * dx / length
    mob.vz = mob.vz / 2 + _KNOCK_BACK * dz / length
    if mob.on_ground:
        mob.vy = min(_KNOCK_BACK, mob.vy / 2 + _KNOCK_BACK)
