"""Looking at blocks and breaking them."""

from __future__ import annotations

import math

import numpy as np

from mineonline.envs.world.blocks import (
    AIR,
    BLOCK_DROP,
    BLOCK_ID,
    BLOCK_TIER,
    BLOCK_TOOL,
    HARDNESS,
    ITEM_ID,
    NO_ITEM,
    SOLID,
    TOOL_KIND,
    TOOL_SPEED,
    TOOL_TIER,
    UNBREAKABLE,
    WATER,
)
from mineonline.envs.world.chance import uniform
from mineonline.envs.world.inventory import held_item, lay_down, use_tool
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.physics import Blocks, eye_height, is_water, view_direction
from mineonline.envs.world.state import (
    HEIGHT,
    SIZE,
    STRIDE_X,
    STRIDE_Y,
    STRIDE_Z,
    Counter,
    Record,
    Records,
    first_column,
)
from mineonline.envs.world.terrain import surface

REACH = 4.5
"""How far from the eye a block can be mined, in blocks."""
NOTHING = -1
_MINE = first_column("mine_block")
_DELAY_TICKS = 5
_OAK_LEAVES, _APPLE = BLOCK_ID["oak_leaves"], ITEM_ID["apple"]
_FAR = 1e30


@kernel
def first_block(
    block: Blocks, x: float, y: float, z: float, dx: float, dy: float, dz: float, reach: float
) -> tuple[int, float, int]:
    """The first solid block along a ray (a unit vector), its distance, and the cell before it.

    NOTHING, the reach and NOTHING if there is none; the cell before is NOTHING if it is outside the world.
    """
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    # along each axis, the distance between cells (per_) and to the next cell (next_)
    per_x = _FAR if dx == 0.0 else abs(1.0 / dx)
    per_y = _FAR if dy == 0.0 else abs(1.0 / dy)
    per_z = _FAR if dz == 0.0 else abs(1.0 / dz)
    next_x = per_x * (i + 1 - x if dx > 0 else x - i)
    next_y = per_y * (j + 1 - y if dy > 0 else y - j)
    next_z = per_z * (k + 1 - z if dz > 0 else z - k)
    distance, before = 0.0, NOTHING
    while distance <= reach:
        inside = 0 <= i < SIZE and 0 <= j < HEIGHT and 0 <= k < SIZE
        cell = i * STRIDE_X + k * STRIDE_Z + j if inside else NOTHING
        if inside and SOLID[block[cell]]:
            return cell, distance, before
        before = cell
        if next_x <= next_y and next_x <= next_z:
            distance, next_x, i = next_x, next_x + per_x, i + (1 if dx > 0 else -1)
        elif next_y <= next_z:
            distance, next_y, j = next_y, next_y + per_y, j + (1 if dy > 0 else -1)
        else:
            distance, next_z, k = next_z, next_z + per_z, k + (1 if dz > 0 else -1)
    return NOTHING, reach, NOTHING


@kernel
def look_at_block(block: Blocks, player: Record, reach: float) -> tuple[int, float, int]:
    """`first_block` along the view."""
    dx, dy, dz = view_direction(player)
    return first_block(block, player.x, player.y + eye_height(player), player.z, dx, dy, dz, reach)


@kernel
def can_harvest(kind: int, item: int) -> bool:
    """Whether a block drops anything when it is broken with an item."""
    return bool(BLOCK_TIER[kind] == 0 or (TOOL_KIND[item] == BLOCK_TOOL[kind] and TOOL_TIER[item] >= BLOCK_TIER[kind]))


@kernel
def progress_a_tick(kind: int, item: int, hampered: float) -> np.float32:
    """What a tick of mining adds to a block's progress; `hampered` is 1, 5 in the air or under water, 25 in both."""
    speed = TOOL_SPEED[item] if TOOL_KIND[item] == BLOCK_TOOL[kind] else np.float32(1.0)
    patience = np.float32(30.0) if can_harvest(kind, item) else np.float32(100.0)
    return np.float32(np.float32(np.float32(speed / np.float32(hampered)) / HARDNESS[kind]) / patience)


@kernel
def _break_block(
    block: Blocks, roof: Blocks, slot: Records, drop: Records, player: Record, counter: Counter, cell: int
) -> None:
    """Break a block: it vanishes, is counted, drops, and wears the tool. Water next to it or above fills the hole."""
    kind = int(block[cell])
    item = held_item(slot, player)
    x, z, y = cell // STRIDE_X, cell % STRIDE_X // STRIDE_Z, cell % STRIDE_Z
    flooded = (
        (y + 1 < HEIGHT and block[cell + STRIDE_Y] == WATER)
        or (x > 0 and block[cell - STRIDE_X] == WATER)
        or (x + 1 < SIZE and block[cell + STRIDE_X] == WATER)
        or (z > 0 and block[cell - STRIDE_Z] == WATER)
        or (z + 1 < SIZE and block[cell + STRIDE_Z] == WATER)
    )
    block[cell] = WATER if flooded else AIR
    roof[x * SIZE + z] = surface(block, x, z)
    counter[_MINE + kind - 1] += 1
    dropped = BLOCK_DROP[kind]
    if kind == _OAK_LEAVES and uniform(player) < 0.005:
        dropped = _APPLE
    if dropped != NO_ITEM and can_harvest(kind, item):
        lay_down(drop, x + 0.5, y + 0.25, z + 0.5, dropped, 1, player)
    use_tool(slot[player.hotbar], 2 if TOOL_KIND[item] == 1 else 1, counter)


@kernel
def mine(
    block: Blocks,
    roof: Blocks,
    slot: Records,
    drop: Records,
    player: Record,
    counter: Counter,
    held_down: bool,
    target: int,
) -> None:
    """One tick of the attack button on a block; progress is lost when it is released or the target changes."""
    if not held_down or target == NOTHING:
        player.target, player.progress, player.mine_delay = NOTHING, 0.0, 0
        return
    if player.mine_delay > 0:
        player.mine_delay -= 1
        return
    if target != player.target:
        player.target, player.progress = target, 0.0
    kind = int(block[target])
    if HARDNESS[kind] == UNBREAKABLE:
        return
    hampered = 1.0 if player.on_ground else 5.0
    if is_water(block, player.x, player.y + eye_height(player), player.z):
        hampered *= 5.0
    step = progress_a_tick(kind, held_item(slot, player), hampered)
    player.progress = np.float32(player.progress) + step
    player.swing = 6 if player.swing == 0 else player.swing
    if player.progress >= 1.0:
        _break_block(block, roof, slot, drop, player, counter, target)
        # no pause after a block that breaks at once
        player.mine_delay = 0 if step >= 1.0 else _DELAY_TICKS
        player.target, player.progress = NOTHING, 0.0
