"""MineStudio's info of one world, built on request from the arrays: fresh dicts, never shared with earlier ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mineonline.envs.names import BIOMES, BLOCKS, EVENTS, ITEMS, MOBS
from mineonline.envs.tasks import ARMOUR_SLOTS
from mineonline.envs.world.blocks import AIR, TOOL_USES
from mineonline.envs.world.state import (
    COUNTERS,
    HEIGHT,
    SIZE,
    STRIDE_X,
    STRIDE_Z,
    Record,
    World,
)

Info = dict[str, Any]
Bounds = tuple[int, int, int, int, int, int]
"""x, y, z, each from and to (included), in blocks relative to the player's."""
_FOOD = 20
_MAIN_SLOTS = 36


def info_of(world: World, n: int, voxels: Bounds | None, mobs: Bounds | None) -> Info:
    """The info of world n, with the blocks and the mobs within bounds around the player if bounds are given."""
    player = world.player[n]
    info: Info = {
        "player_pos": {name: float(player[name]) for name in ("x", "y", "z", "pitch", "yaw")},
        # MineStudio's callbacks use both spellings
        "is_gui_open": bool(player["gui_open"]),
        "isGuiOpen": bool(player["gui_open"]),
        "health": float(player["health"]),
        "food_level": _FOOD,
        "inventory": {s: _stack(world.slot[n, s]) for s in range(_MAIN_SLOTS)},
        "equipped_items": _equipped(world, n),
        "location_stats": _location(world, n),
        **_counters(world, n),
    }
    if voxels is not None:
        info["voxels"] = _voxels(world, n, voxels)
    if mobs is not None:
        info["mobs"] = _mobs(world, n, mobs)
    return info


def _stack(slot: Record) -> dict[str, Any]:
    return {"type": ITEMS[slot["item"]], "quantity": int(slot["count"])}


def _equipped(world: World, n: int) -> Info:
    slots = {"mainhand": world.slot[n, world.player[n]["hotbar"]]}
    slots |= {name: world.slot[n, _MAIN_SLOTS + index] for index, name in enumerate(ARMOUR_SLOTS)}
    return {
        name: {
            "type": ITEMS[slot["item"]],
            "damage": int(slot["wear"]),
            "maxDamage": int(TOOL_USES[slot["item"]]),
        }
        for name, slot in slots.items()
    }


def _location(world: World, n: int) -> Info:
    player = world.player[n]
    x, y, z = (math.floor(player[axis]) for axis in ("x", "y", "z"))
    return {
        "biome_name": BIOMES[player["biome"]],
        "can_see_sky": bool(y >= world.roof[n, x * SIZE + z]),
        "sea_level": 9,
        "xpos": float(player["x"]),
        "ypos": float(player["y"]),
        "zpos": float(player["z"]),
        "pitch": float(player["pitch"]),
        "yaw": float(player["yaw"]),
    }


def _counters(world: World, n: int) -> dict[str, dict[str, float]]:
    counts: dict[str, dict[str, float]] = {event: {} for event in EVENTS}
    for (event, thing), column in COUNTERS.items():
        if world.counter[n, column] != 0:
            counts[event][thing] = float(world.counter[n, column])
    return counts


def _voxels(world: World, n: int, bounds: Bounds) -> list[Info]:
    """All blocks except air within bounds, positions relative to the player's block."""
    player = world.player[n]
    middle = [math.floor(player[axis]) for axis in ("x", "y", "z")]
    x, y, z = (
        np.arange(max(0, m + low), min(size, m + high + 1))
        for m, low, high, size in zip(middle, bounds[::2], bounds[1::2], (SIZE, HEIGHT, SIZE), strict=True)
    )
    i, j, k = np.meshgrid(x, y, z, indexing="ij")
    kinds = world.block[n, i * STRIDE_X + k * STRIDE_Z + j]
    solid = kinds != AIR
    relative = (i - middle[0], j - middle[1], k - middle[2])
    return [
        {"type": BLOCKS[kind], "x": int(dx), "y": int(dy), "z": int(dz)}
        for kind, dx, dy, dz in zip(kinds[solid], *(axis[solid] for axis in relative), strict=True)
    ]


def _mobs(world: World, n: int, bounds: Bounds) -> list[Info]:
    """Living mobs within bounds, positions relative to the player."""
    player = world.player[n]
    found = []
    for mob in world.mob[n]:
        rel = [float(mob[axis] - player[axis]) for axis in ("x", "y", "z")]
        near = all(low <= r <= high for r, low, high in zip(rel, bounds[::2], bounds[1::2], strict=True))
        if mob["kind"] >= 0 and mob["dying"] == 0 and near:
            position = dict(zip("xyz", rel, strict=True))
            found.append({"name": MOBS[mob["kind"]], **position, "health": float(mob["health"])})
    return found
