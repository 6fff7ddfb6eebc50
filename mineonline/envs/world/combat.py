"""Attacking mobs: each press of the button is one blow, weak until the weapon has recovered."""

from __future__ import annotations

import numpy as np

from mineonline.envs.world.blocks import BLOW_HP, BLOW_TICKS, TOOL_KIND
from mineonline.envs.world.inventory import held_item, use_tool
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import NOTHING
from mineonline.envs.world.mobs import BODY, hurt
from mineonline.envs.world.physics import eye_height, view_direction
from mineonline.envs.world.state import Counter, Record, Records

REACH = 3.0
"""How far from the eye a mob's box can be hit, in blocks."""
_SWORD = 1


@kernel
def _slab(start: float, direction: float, low: float, high: float) -> tuple[float, float]:
    """From and to which distance a ray is between two planes; an empty interval if it never is."""
    if direction == 0.0:
        return (-np.inf, np.inf) if low <= start <= high else (np.inf, -np.inf)
    a, b = (low - start) / direction, (high - start) / direction
    return (a, b) if a < b else (b, a)


@kernel
def distance_to_mob(mob: Record, x: float, y: float, z: float, dx: float, dy: float, dz: float, margin: float) -> float:
    """Distance along a ray to a mob's box with a margin around it; infinite if the ray misses."""
    half, height = BODY[mob.kind, 0] + margin, BODY[mob.kind, 1]
    x0, x1 = _slab(x, dx, mob.x - half, mob.x + half)
    y0, y1 = _slab(y, dy, mob.y - margin, mob.y + height + margin)
    z0, z1 = _slab(z, dz, mob.z - half, mob.z + half)
    enter, leave = max(x0, y0, z0), min(x1, y1, z1)
    if leave < max(enter, 0.0):
        return np.inf
    return float(max(enter, 0.0))


@kernel
def first_mob(
    mobs: Records, x: float, y: float, z: float, dx: float, dy: float, dz: float, reach: float, margin: float
) -> int:
    """The nearest living mob along a ray (a unit vector), NOTHING if there is none within reach."""
    best, nearest = NOTHING, reach
    for m in range(mobs.shape[0]):
        if mobs[m].kind >= 0 and mobs[m].dying == 0:
            distance = distance_to_mob(mobs[m], x, y, z, dx, dy, dz, margin)
            if distance <= nearest:
                best, nearest = m, distance
    return best


@kernel
def look_at_mob(mobs: Records, player: Record, reach: float) -> int:
    """`first_mob` along the view."""
    dx, dy, dz = view_direction(player)
    return first_mob(mobs, player.x, player.y + eye_height(player), player.z, dx, dy, dz, reach, 0.0)


@kernel
def blow_strength(item: int, since_blow_ticks: int) -> float:
    """hp of a blow with an item, this many ticks after the last one: a fifth at once, full after the cooldown."""
    recovered = min(1.0, (since_blow_ticks + 0.5) / BLOW_TICKS[item])
    return float(BLOW_HP[item] * (0.2 + 0.8 * recovered * recovered))


@kernel
def strike(
    mobs: Records, drop: Records, slot: Records, player: Record, counter: Counter, victim: int, hits_block: bool
) -> None:
    """A fresh click. A click on a block starts mining and costs the next blow no strength; any other click does."""
    player.swing = 6
    if victim == NOTHING:
        if not hits_block:
            player.since_blow = 0
        return
    item = held_item(slot, player)
    landed = hurt(mobs[victim], drop, player, counter, blow_strength(item, player.since_blow))
    player.since_blow = 0
    if landed:
        use_tool(slot[player.hotbar], 1 if TOOL_KIND[item] == _SWORD else 2, counter)
