"""How an episode begins: the land, where the player stands, what it carries, and who is around."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES, MOBS
from mineonline.envs.tasks import Task, slot_number
from mineonline.envs.world.blocks import AIR, BLOCK_ID, ITEM_ID, SOLID, STACK_SIZE
from mineonline.envs.world.chance import uniform
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING
from mineonline.envs.world.mobs import BODY
from mineonline.envs.world.physics import RESTING_VY, Blocks
from mineonline.envs.world.state import (
    FULL_AIR_TICKS,
    FULL_HEALTH,
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


class Start(NamedTuple):
    """What a task gives at the start of an episode, as arrays."""

    biome: int
    """its place in `names.BIOMES`, -1 any"""
    near: int
    """the block to start next to, -1 none"""
    stacks: NDArray[np.int64]
    """[stacks, 3] slot, item, count"""
    mob_kind: NDArray[np.int64]
    """[M] places in `names.MOBS`"""
    mob_range: NDArray[np.float64]
    """[M, 4] least and greatest x, least and greatest z, from the player"""


def start_of(task: Task) -> Start:
    """The arrays of a task."""
    summoned = [mobs for mobs in task.mobs for _ in range(mobs.number)]
    stacks = [
        (slot_number(s.slot), ITEM_ID[s.item], min(s.count, int(STACK_SIZE[ITEM_ID[s.item]]))) for s in task.inventory
    ]
    return Start(
        biome=-1 if task.biome is None else BIOMES.index(task.biome),
        near=-1 if task.spawn_near is None else BLOCK_ID[task.spawn_near],
        stacks=np.array(stacks, np.int64).reshape(-1, 3),
        mob_kind=np.array([MOBS.index(mobs.name) for mobs in summoned], np.int64),
        mob_range=np.array([(*mobs.range_x, *mobs.range_z) for mobs in summoned], np.float64).reshape(-1, 4),
    )


@kernel
def standing_height(block: Blocks, x: int, z: int) -> int:
    """Height at which feet can stand in a column under the open sky or under leaves; NOTHING on water or a cactus."""
    column = x * STRIDE_X + z * STRIDE_Z
    y = surface(block, x, z)
    while y > 1 and (block[column + y] == AIR or _FIRST_LEAVES <= block[column + y] <= _LAST_LEAVES):
        y -= 1
    ground = block[column + y]
    is_trunk = _FIRST_LOG <= ground < _FIRST_LEAVES
    if not SOLID[ground] or is_trunk or ground == _CACTUS:
        return NOTHING
    if block[column + y + 1] != AIR or block[column + y + 2] != AIR:
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
    """The nearest column to the middle where the player can stand; the middle is dug free where there is none."""
    for ring in range(_MIDDLE - 4):
        for dx in range(-ring, ring + 1):
            for dz in range(-ring, ring + 1):
                if max(abs(dx), abs(dz)) == ring and _stand(block, player, _MIDDLE + dx, _MIDDLE + dz):
                    return
    player.x, player.y, player.z = _MIDDLE + 0.5, surface(block, _MIDDLE, _MIDDLE) + 1.0, _MIDDLE + 0.5


@kernel
def _stand_beside(block: Blocks, player: Record, kind: int) -> bool:
    """Stand two steps from the nearest block of a kind that is at the height of the eyes, and look at it."""
    best, nearest = NOTHING, 1e9
    for x in range(4, SIZE - 4):
        for z in range(4, SIZE - 4):
            column = x * STRIDE_X + z * STRIDE_Z
            distance = float((x - _MIDDLE) ** 2 + (z - _MIDDLE) ** 2)
            if distance >= nearest:
                continue
            for dx, dz in ((2, 0), (0, 2), (-2, 0), (0, -2)):
                height = standing_height(block, x + dx, z + dz)
                if height != NOTHING and block[column + height + 1] == kind and block[
                    column + dx // 2 * STRIDE_X + dz // 2 * STRIDE_Z + height + 1
                ] == AIR:
                    best, nearest = column, distance
                    player.x, player.y, player.z = x + dx + 0.5, float(height), z + dz + 0.5
                    player.yaw = math.degrees(math.atan2(float(dx), float(-dz)))
    return best != NOTHING


@kernel
def _place_mob(block: Blocks, mob: Record, player: Record, kind: int, ranges: NDArray[np.float64]) -> None:
    """A mob on walkable ground within its range; beside the player's column where there is none."""
    mob.kind = kind
    mob.health = BODY[kind, 2]
    mob.x, mob.y, mob.z = player.x, player.y, player.z
    for attempt in range(40):
        x = player.x + ranges[0] + (ranges[1] - ranges[0]) * uniform(player)
        z = player.z + ranges[2] + (ranges[3] - ranges[2]) * uniform(player)
        i, k = math.floor(x), math.floor(z)
        if not (1 <= i < SIZE - 1 and 1 <= k < SIZE - 1):
            continue
        height = standing_height(block, i, k)
        level = height != NOTHING and (abs(height - player.y) <= 2 or attempt > 20)
        # to the middle of the column, so that its box is in no wall
        if level and max(abs(x - player.x), abs(z - player.z)) > 1.0:
            mob.x, mob.y, mob.z = i + 0.5, float(height), k + 0.5
            break
    mob.yaw = 360.0 * uniform(player) - 180.0
    mob.goal_yaw = mob.yaw


@kernel
def _fresh_player(player: Record, time_limit: int) -> None:
    player.vx, player.vy, player.vz, player.pitch, player.fall = 0.0, RESTING_VY, 0.0, 0.0, 0.0
    player.yaw = 360.0 * uniform(player) - 180.0
    player.health, player.air, player.hurt, player.swing = FULL_HEALTH, FULL_AIR_TICKS, 0, 0
    player.tick, player.time_limit = 0, time_limit
    player.target, player.progress, player.mine_delay, player.jump_delay = NOTHING, 0.0, 0, 0
    player.hotbar, player.since_blow = 0, _RESTED_TICKS
    player.on_ground, player.bumped, player.in_water, player.sneaking, player.sprinting = 1, 0, 0, 0, 0
    player.attack_down, player.drop_down, player.inventory_down, player.gui_open = 0, 0, 0, 0


@kernel
def _fill_slots(slot: Records, stacks: NDArray[np.int64]) -> None:
    for s in range(slot.shape[0]):
        slot[s].item, slot[s].count, slot[s].wear = 0, 0, 0
    for s in range(stacks.shape[0]):
        slot[stacks[s, 0]].item, slot[stacks[s, 0]].count = stacks[s, 1], stacks[s, 2]


@kernel
def begin(
    world: World, n: int, start: Start, land_seed: np.uint64, seed: np.uint64, time_limit: int
) -> None:
    """Begin an episode in world n: its land from one seed, all else from the other. Velocities are blocks a tick."""
    block, player = world.block[n], world.player[n]
    player.rng = land_seed
    generate(block, player, start.biome)
    survey(block, world.roof[n], world.tile_roof[n], player)
    player.rng = seed
    _fresh_player(player, time_limit)
    if start.near < 0 or not _stand_beside(block, player, start.near):
        _stand_near_middle(block, player)
    _fill_slots(world.slot[n], start.stacks)
    for d in range(world.drop.shape[1]):
        world.drop[n, d].item = 0
    for m in range(start.mob_kind.shape[0]):
        mob = world.mob[n, m]
        mob.vx, mob.vy, mob.vz, mob.stride, mob.last_blow = 0.0, RESTING_VY, 0.0, 0.0, 0.0
        mob.walk, mob.panic, mob.unhurtable, mob.hurt, mob.dying = 0, 0, 0, 0, 0
        mob.on_ground, mob.bumped, mob.in_water = 1, 0, 0
        _place_mob(block, mob, player, start.mob_kind[m], start.mob_range[m])
    world.counter[n, :] = 0.0
