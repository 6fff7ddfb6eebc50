"""The state of N worlds: plain numpy arrays of records, so that a kernel takes a world's row of each and no more.

Axes: N worlds, V blocks of a world, M mobs, D dropped items, A arrows, S inventory slots, K counters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import EVENTS

SIZE = 64
"""Blocks along x and along z; what lies outside is a wall that nobody sees."""
HEIGHT = 32
VOLUME = SIZE * SIZE * HEIGHT
STRIDE_X = SIZE * HEIGHT
STRIDE_Z = HEIGHT
STRIDE_Y = 1

TILE = 8
"""Columns along each side of a tile, over which a ray can pass at once."""
TILES = SIZE // TILE

MAX_DROPS = 32
MAX_ARROWS = 32
NUM_SLOTS = 41
OFF_HAND = 40
FULL_HEALTH = 20.0
FULL_AIR_TICKS = 300

Record = Any
"""One row of an array of records; numba knows its fields, mypy does not."""
Records = NDArray[Any]
Counter = NDArray[np.float64]
"""[K] one world's counters"""

PLAYER = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),  # the middle of the soles
        ("vx", "f8"),
        ("vy", "f8"),
        ("vz", "f8"),  # blocks a tick
        ("yaw", "f8"),
        ("pitch", "f8"),  # degrees; yaw 0 looks to +z, 90 to -x; pitch 90 looks down
        ("fall", "f8"),  # blocks fallen so far
        ("rng", "u8"),
        ("mission", "u8"),  # the seed of all land of a mission
        ("target", "i8"),  # the block being mined, -1 none
        ("health", "f4"),
        ("progress", "f4"),  # of the block being mined, 1 breaks it; float32 as in Minecraft, or dirt takes a tick more
        ("tick", "i4"),  # of the episode
        ("time_limit", "i4"),  # ticks
        ("biome", "i4"),
        ("near", "i4"),  # the block that the player starts next to, -1 none
        ("top", "i4"),  # nothing stands at this height or above it
        ("ground", "i4"),  # the usual height of the ground
        ("hotbar", "i4"),
        ("jump_delay", "i4"),
        ("mine_delay", "i4"),
        ("since_blow", "i4"),  # ticks since the last blow
        ("use_delay", "i4"),  # ticks until a use key that is held acts again
        ("draw_slot", "i4"),  # of the bow that is being drawn, -1 none
        ("draw_ticks", "i4"),  # for which it has been
        ("swing", "i4"),  # ticks left of the arm's swing
        ("air", "i4"),  # ticks of breath
        ("hurt", "i4"),  # ticks left of the flash
        ("mending", "i4"),  # ticks of being hurt since it last healed
        ("on_ground", "u1"),
        ("bumped", "u1"),  # walked into something
        ("in_water", "u1"),
        ("sneaking", "u1"),
        ("sprinting", "u1"),
        ("attack_down", "u1"),
        ("use_down", "u1"),
        ("drop_down", "u1"),
        ("inventory_down", "u1"),
        ("gui_open", "u1"),
    ],
    align=True,
)

MOB = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),
        ("vx", "f8"),
        ("vy", "f8"),
        ("vz", "f8"),
        ("yaw", "f8"),
        ("goal_yaw", "f8"),
        ("stride", "f8"),  # phase of the legs, radians
        ("health", "f4"),
        ("last_blow", "f4"),  # hp of the last blow that counted
        ("kind", "i4"),  # its place in names.MOBS, -1 none
        ("walk", "i4"),  # ticks left to walk
        ("panic", "i4"),  # ticks left to flee
        ("unhurtable", "i4"),  # ticks in which only a harder blow hurts
        ("hurt", "i4"),  # ticks left of the red flash
        ("dying", "i4"),  # ticks until the body vanishes, 0 alive
        ("on_ground", "u1"),
        ("bumped", "u1"),
        ("in_water", "u1"),
    ],
    align=True,
)

DROP = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),
        ("vx", "f8"),
        ("vy", "f8"),
        ("vz", "f8"),
        ("item", "i4"),  # 0 none
        ("count", "i4"),
        ("wear", "i4"),
        ("age", "i4"),
        ("delay", "i4"),  # ticks until it can be picked up
        ("on_ground", "u1"),
        ("bumped", "u1"),
        ("in_water", "u1"),
    ],
    align=True,
)

FLYING, STUCK = 1, 2
ARROW = np.dtype(
    [
        ("x", "f8"),
        ("y", "f8"),
        ("z", "f8"),
        ("vx", "f8"),
        ("vy", "f8"),
        ("vz", "f8"),  # blocks a tick
        ("bearing", "f8"),
        ("climb", "f8"),  # radians; where it points: from +x to +z, and up
        ("cell", "i8"),  # the block that it sticks in
        ("age", "i4"),
        ("state", "i4"),  # 0 none, FLYING, STUCK
        ("critical", "u1"),  # from a bow that was drawn all the way
    ],
    align=True,
)

SLOT = np.dtype([("item", "i4"), ("count", "i4"), ("wear", "i4")], align=True)

COUNTERS: dict[tuple[str, str], int] = {
    pair: column for column, pair in enumerate((event, thing) for event, things in EVENTS.items() for thing in things)
}
"""(event, object) -> its column of `World.counter`."""


def first_column(event: str) -> int:
    """Where the columns of an event begin; its objects follow in the order of `names.EVENTS`."""
    return COUNTERS[event, EVENTS[event][0]]


class World(NamedTuple):
    """N worlds, in which a mission has begun."""

    player: Records
    """[N] of PLAYER"""
    mob: Records
    """[N, M] of MOB"""
    drop: Records
    """[N, D] of DROP"""
    arrow: Records
    """[N, A] of ARROW"""
    slot: Records
    """[N, S] of SLOT: 0-35 as in MineStudio, then feet, legs, chest, head, off hand"""
    block: NDArray[np.uint8]
    """[N, V] block ids at x * STRIDE_X + z * STRIDE_Z + y"""
    roof: NDArray[np.uint8]
    """[N, SIZE * SIZE] height of the highest block of a column, at x * SIZE + z: what is lower lies in the shade"""
    tile_roof: NDArray[np.uint8]
    """[N, TILES * TILES] no roof of a tile is higher; placing raises it, mining does not lower it"""
    counter: NDArray[np.float64]
    """[N, K] cumulative in an episode"""


def new_world(num_worlds: int, num_mobs: int) -> World:
    """Arrays for N worlds in which nothing has begun."""
    mob = np.zeros((num_worlds, max(1, num_mobs)), MOB)
    mob["kind"] = -1
    return World(
        player=np.zeros(num_worlds, PLAYER),
        mob=mob,
        drop=np.zeros((num_worlds, MAX_DROPS), DROP),
        arrow=np.zeros((num_worlds, MAX_ARROWS), ARROW),
        slot=np.zeros((num_worlds, NUM_SLOTS), SLOT),
        block=np.zeros((num_worlds, VOLUME), np.uint8),
        roof=np.zeros((num_worlds, SIZE * SIZE), np.uint8),
        tile_roof=np.zeros((num_worlds, TILES * TILES), np.uint8),
        counter=np.zeros((num_worlds, len(COUNTERS))),
    )
