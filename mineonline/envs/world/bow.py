"""The bow and its arrows: drawn while `use` is held, shot when it is released, stuck where they hit."""

from __future__ import annotations

import math

from mineonline.envs.world.blocks import ARROW, SOLID
from mineonline.envs.world.chance import below, gauss
from mineonline.envs.world.combat import first_mob
from mineonline.envs.world.inventory import PICKUP, add, take_one, wear_out, within_reach
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING, first_block
from mineonline.envs.world.mobs import hurt
from mineonline.envs.world.physics import Blocks, eye_height, is_water, view_direction
from mineonline.envs.world.state import (
    FLYING,
    MAX_ARROWS,
    OFF_HAND,
    SIZE,
    STUCK,
    Counter,
    Record,
    Records,
)

_FULL_DRAW_TICKS = 20.0
_LEAST_POWER = 0.1
_SPEED = 3.0
"""Of an arrow from a fully drawn bow, in blocks per tick."""
_SPREAD = 0.0075
_HP_A_SPEED = 2.0
_GRAVITY = 0.05
_DRAG_AIR, _DRAG_WATER = 0.99, 0.6
_MARGIN = 0.3
"""How far outside a mob's box an arrow still hits it, in blocks."""
_SHAKE_TICKS = 7
_STUCK_TICKS = 1200
_MAIN_SLOTS = 36


@kernel
def find_arrow(slot: Records) -> int:
    """The slot from which a bow takes an arrow: the off hand, else the first with arrows; NOTHING if there is none."""
    if slot[OFF_HAND].item == ARROW:
        return OFF_HAND
    for s in range(_MAIN_SLOTS):
        if slot[s].item == ARROW:
            return s
    return NOTHING


@kernel
def draw_power(draw_ticks: int) -> float:
    """The power of a bow that has been drawn for this many ticks, 0 to 1."""
    drawn = draw_ticks / _FULL_DRAW_TICKS
    return min(1.0, (drawn * drawn + 2.0 * drawn) / 3.0)


@kernel
def _free_arrow(arrow: Records) -> int:
    """Index of the first free record, or else of the oldest arrow."""
    oldest = 0
    for a in range(MAX_ARROWS):
        if arrow[a].state == 0:
            return a
        if arrow[a].age > arrow[oldest].age:
            oldest = a
    return oldest


@kernel
def shoot(arrow: Records, slot: Records, player: Record, counter: Counter) -> None:
    """Release the bow: it shoots an arrow, unless it was hardly drawn or no arrow is left."""
    power, quiver = draw_power(player.draw_ticks), find_arrow(slot)
    bow = player.draw_slot
    player.draw_slot, player.draw_ticks = NOTHING, 0
    if power < _LEAST_POWER or quiver == NOTHING:
        return
    shot = arrow[_free_arrow(arrow)]
    dx, dy, dz = view_direction(player)
    speed = _SPEED * power
    shot.x, shot.y, shot.z = player.x, player.y + eye_height(player) - 0.1, player.z
    shot.vx = (dx + _SPREAD * gauss(player)) * speed + player.vx
    shot.vy = (dy + _SPREAD * gauss(player)) * speed + (0.0 if player.on_ground else player.vy)
    shot.vz = (dz + _SPREAD * gauss(player)) * speed + player.vz
    shot.state, shot.age, shot.critical = FLYING, 0, power == 1.0
    _point(shot)
    take_one(slot[quiver])
    wear_out(slot[bow], 1, counter)


@kernel
def _point(shot: Record) -> None:
    """Point an arrow along its flight."""
    shot.bearing = math.atan2(shot.vz, shot.vx)
    shot.climb = math.atan2(shot.vy, math.sqrt(shot.vx * shot.vx + shot.vz * shot.vz))


@kernel
def _fly(block: Blocks, shot: Record, mobs: Records, drop: Records, player: Record, counter: Counter) -> None:
    """One tick in the air, up to the first block or mob in the way. An arrow that leaves the world vanishes."""
    speed = max(1e-9, math.sqrt(shot.vx * shot.vx + shot.vy * shot.vy + shot.vz * shot.vz))
    dx, dy, dz = shot.vx / speed, shot.vy / speed, shot.vz / speed
    cell, distance, _ = first_block(block, shot.x, shot.y, shot.z, dx, dy, dz, speed)
    victim = first_mob(mobs, shot.x, shot.y, shot.z, dx, dy, dz, min(distance, speed), _MARGIN)
    if victim != NOTHING:
        hp = math.ceil(_HP_A_SPEED * speed)
        if shot.critical:
            hp += below(player, hp // 2 + 2)
        if hurt(mobs[victim], drop, player, counter, float(hp)):
            shot.state = 0
        # it bounces off a mob that cannot be hurt right now
        shot.vx, shot.vy, shot.vz = -0.1 * shot.vx, -0.1 * shot.vy, -0.1 * shot.vz
    elif cell != NOTHING:
        # only the head is inside the block; the rest stays visible
        into = max(0.0, distance - 0.05)
        shot.x, shot.y, shot.z = shot.x + into * dx, shot.y + into * dy, shot.z + into * dz
        shot.state, shot.cell, shot.age = STUCK, cell, 0
        shot.vx, shot.vy, shot.vz = 0.0, 0.0, 0.0
        return
    else:
        shot.x, shot.y, shot.z = shot.x + shot.vx, shot.y + shot.vy, shot.z + shot.vz
        _point(shot)
        if not (0.0 <= shot.x < SIZE and 0.0 <= shot.z < SIZE and shot.y >= 0.0):
            shot.state = 0
    drag = _DRAG_WATER if is_water(block, shot.x, shot.y, shot.z) else _DRAG_AIR
    shot.vx, shot.vy, shot.vz = shot.vx * drag, shot.vy * drag - _GRAVITY, shot.vz * drag


@kernel
def move_arrows(
    block: Blocks, arrow: Records, mobs: Records, drop: Records, slot: Records, player: Record, counter: Counter
) -> None:
    """One tick of all arrows of a world. A stuck one can be picked up, and falls if its block is removed."""
    for a in range(MAX_ARROWS):
        shot = arrow[a]
        if shot.state == 0:
            continue
        shot.age += 1
        if shot.state == FLYING:
            _fly(block, shot, mobs, drop, player, counter)
        elif not SOLID[block[shot.cell]]:
            shot.state = FLYING
        elif shot.age > _SHAKE_TICKS and within_reach(player, shot) and add(slot, ARROW, 1, 0) == 0:
            counter[PICKUP + ARROW - 1] += 1
            shot.state = 0
        if shot.age > _STUCK_TICKS:
            shot.state = 0
