"""How a life starts: the land, where the player stands, and where summoned mobs stand."""

from __future__ import annotations

import math

import numpy as np

from mineonline.envs.world.blocks import AIR, BLOCK_ID, NO_ITEM, SOLID
from mineonline.envs.world.chance import uniform
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING
from mineonline.envs.world.mobs import BODY
from mineonline.envs.world.physics import RESTING_VY, Blocks, is_solid
from mineonline.envs.world.state import (
    FULL_AIR_TICKS,
    FULL_HEALTH,
    HEIGHT,
    SIZE,
    STRIDE_X,
    STRIDE_Z,
    Record,
    Records,
    World,
)
from mineonline.envs.world.terrain import generate, surface, survey

_FIRST_LOG, _FIRST_LEAVES, _LAST_LEAVES = (BLOCK_ID[name] for name in ("oak_log", "oak_leaves", "acacia_leaves"))
_CACTUS = BLOCK_ID["cactus"]
_MIDDLE = SIZE // 2
_RESTED_TICKS = 100
_LONGEST_FALL = 8
"""How far above the ground a mob may appear, in blocks."""
_LEAST_AROUND = 3.0


@kernel
def standing_height(block: Blocks, x: int, z: int) -> int:
    """Height at which one can stand in a column, under open sky or leaves; NOTHING on water, a trunk or a cactus."""
    column = x * STRIDE_X + z * STRIDE_Z
    y = surface(block, x, z)
    while y > 1 and (block[column + y] == AIR or _FIRST_LEAVES <= block[column + y] <= _LAST_LEAVES):
        y -= 1
    ground = block[column + y]
    is_trunk = _FIRST_LOG <= ground < _FIRST_LEAVES
    if not SOLID[ground] or is_trunk or ground == _CACTUS:
        return NOTHING
    if y + 2 >= HEIGHT or block[column + y + 1] != AIR or block[column + y + 2] != AIR:
        return NOTHING
    return y + 1


@kernel
def _stand(block: Blocks, player: Record, x: int, z: int) -> bool:
    """Put the player on a column if it can stand there."""
    height = standing_height(block, x, z)
    if height == NOTHING:
        return False
    player.x, player.y, player.z = x + 0.5, float(height), z + 0.5
    return True


@kernel
def _stand_near_middle(block: Blocks, player: Record) -> None:
    """Put the player on the column nearest to the middle where it can stand, or on the middle if there is none."""
    for ring in range(_MIDDLE - 4):
        for dx in range(-ring, ring + 1):
            for dz in range(-ring, ring + 1):
                if max(abs(dx), abs(dz)) == ring and _stand(block, player, _MIDDLE + dx, _MIDDLE + dz):
                    return
    player.x, player.y, player.z = _MIDDLE + 0.5, surface(block, _MIDDLE, _MIDDLE) + 1.0, _MIDDLE + 0.5


@kernel
def _stand_beside(block: Blocks, player: Record, kind: int) -> bool:
    """Put the player two blocks from the nearest block of a kind at eye height, looking at it; False if none."""
    best, nearest = NOTHING, 1e9
    for x in range(4, SIZE - 4):
        for z in range(4, SIZE - 4):
            column = x * STRIDE_X + z * STRIDE_Z
            distance = float((x - _MIDDLE) ** 2 + (z - _MIDDLE) ** 2)
            if distance >= nearest:
                continue
            for dx, dz in ((2, 0), (0, 2), (-2, 0), (0, -2)):
                height = standing_height(block, x + dx, z + dz)
                if (
                    height != NOTHING
                    and block[column + height + 1] == kind
                    and block[column + dx // 2 * STRIDE_X + dz // 2 * STRIDE_Z + height + 1] == AIR
                ):
                    best, nearest = column, distance
                    player.x, player.y, player.z = x + dx + 0.5, float(height), z + dz + 0.5
                    player.yaw = math.degrees(math.atan2(float(dx), float(-dz)))
    return best != NOTHING


@kernel
def _ground_below(block: Blocks, x: int, y: int, z: int) -> int:
    """Height at which a mob that appears at (x, y, z) would stand; NOTHING if it cannot stand there."""
    if not (1 <= x < SIZE - 1 and 1 <= z < SIZE - 1 and 1 <= y < HEIGHT):
        return NOTHING
    column = x * STRIDE_X + z * STRIDE_Z
    lowest = max(1, y - _LONGEST_FALL)
    while y >= lowest and block[column + y - 1] == AIR:
        y -= 1
    ground = block[column + y - 1]
    open_above = block[column + y] == AIR and (y + 1 >= HEIGHT or block[column + y + 1] == AIR)
    is_tree = _FIRST_LOG <= ground <= _LAST_LEAVES
    if y < lowest or not open_above or not SOLID[ground] or is_tree or ground == _CACTUS:
        return NOTHING
    return y


@kernel
def _touches_wall(block: Blocks, x: float, y: int, z: float, half: float) -> bool:
    for i in range(math.floor(x - half), math.floor(x + half) + 1):
        for k in range(math.floor(z - half), math.floor(z + half) + 1):
            if is_solid(block, i, y, k) or is_solid(block, i, y + 1, k):
                return True
    return False


@kernel
def _place_mob(block: Blocks, mob: Record, player: Record, x: float, y: float, z: float) -> None:
    """Put a mob on the ground a few blocks below (x, y, z) if that is walkable, otherwise at random near the player."""
    i, k = math.floor(x), math.floor(z)
    height = _ground_below(block, i, math.floor(y), k)
    if height != NOTHING:
        free = not _touches_wall(block, x, height, z, BODY[mob.kind, 0])
        mob.x, mob.y, mob.z = x if free else i + 0.5, float(height), z if free else k + 0.5
        return
    mob.x, mob.y, mob.z = player.x, player.y, player.z
    around = max(_LEAST_AROUND, abs(x - player.x), abs(z - player.z))
    for attempt in range(40):
        i = math.floor(player.x + around * (2.0 * uniform(player) - 1.0))
        k = math.floor(player.z + around * (2.0 * uniform(player) - 1.0))
        if not (1 <= i < SIZE - 1 and 1 <= k < SIZE - 1):
            continue
        height = standing_height(block, i, k)
        level = height != NOTHING and (abs(height - player.y) <= 2 or attempt > 20)
        if level and max(abs(i + 0.5 - player.x), abs(k + 0.5 - player.z)) > 1.0:
            mob.x, mob.y, mob.z = i + 0.5, float(height), k + 0.5
            break


@kernel
def summon(world: World, n: int, kind: int, x: float, y: float, z: float) -> None:
    """Add a mob, unless the world has no room for another."""
    player = world.player[n]
    for m in range(world.mob.shape[1]):
        mob = world.mob[n, m]
        if mob.kind < 0:
            mob.kind, mob.health = kind, BODY[kind, 2]
            mob.vx, mob.vy, mob.vz, mob.stride, mob.last_blow = 0.0, RESTING_VY, 0.0, 0.0, 0.0
            mob.walk, mob.panic, mob.unhurtable, mob.hurt, mob.dying = 0, 0, 0, 0, 0
            mob.on_ground, mob.bumped, mob.in_water = 1, 0, 0
            _place_mob(world.block[n], mob, player, x, y, z)
            mob.yaw = 360.0 * uniform(player) - 180.0
            mob.goal_yaw = mob.yaw
            return


@kernel
def _fresh_player(block: Blocks, player: Record) -> None:
    """Reset the player: healthy, no key pressed, in the open or next to a block of kind `player.near`."""
    player.vx, player.vy, player.vz, player.pitch, player.fall = 0.0, RESTING_VY, 0.0, 0.0, 0.0
    player.yaw = 360.0 * uniform(player) - 180.0
    player.health, player.air, player.hurt, player.swing = FULL_HEALTH, FULL_AIR_TICKS, 0, 0
    player.target, player.progress, player.mine_delay, player.jump_delay = NOTHING, 0.0, 0, 0
    player.hotbar, player.since_blow, player.mending = 0, _RESTED_TICKS, 0
    player.use_delay, player.draw_slot, player.draw_ticks = 0, NOTHING, 0
    player.on_ground, player.bumped, player.in_water, player.sneaking, player.sprinting = 1, 0, 0, 0, 0
    player.attack_down, player.use_down, player.drop_down = 0, 0, 0
    player.inventory_down, player.gui_open = 0, 0
    if player.near < 0 or not _stand_beside(block, player, player.near):
        _stand_near_middle(block, player)


@kernel
def empty_slots(slot: Records) -> None:
    """Remove all that the player carries."""
    for s in range(slot.shape[0]):
        slot[s].item, slot[s].count, slot[s].wear = NO_ITEM, 0, 0


@kernel
def remove_mobs(mobs: Records, kind: int) -> None:
    """Remove the mobs of a kind (-1: all); they leave no remains."""
    for m in range(mobs.shape[0]):
        if kind < 0 or mobs[m].kind == kind:
            mobs[m].kind = -1


@kernel
def remove_drops(drop: Records) -> None:
    """Remove all dropped items."""
    for d in range(drop.shape[0]):
        drop[d].item = NO_ITEM


@kernel
def remove_arrows(arrow: Records) -> None:
    """Remove all arrows."""
    for a in range(arrow.shape[0]):
        arrow[a].state = 0


@kernel
def arrive(world: World, n: int, land_seed: np.uint64, biome: int) -> None:
    """Make new land of a biome (-1: any) from a seed, which also determines the world's random numbers from now on.

    The player starts on it as in a new mission, but keeps its inventory and counters. Mobs, dropped items and arrows
    are removed.
    """
    block, player = world.block[n], world.player[n]
    player.rng = land_seed
    generate(block, player, biome)
    survey(block, world.roof[n], world.tile_roof[n], player)
    remove_drops(world.drop[n])
    remove_arrows(world.arrow[n])
    remove_mobs(world.mob[n], -1)
    _fresh_player(block, player)


@kernel
def be_reborn(world: World, n: int) -> None:
    """Start the player's next life on the same land, with nothing."""
    empty_slots(world.slot[n])
    _fresh_player(world.block[n], world.player[n])
