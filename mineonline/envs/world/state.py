"""The state of N worlds: plain numpy arrays of records, so that a kernel takes one world's entry of each and no more.

Axes: N worlds, V blocks of a world, M mobs, D dropped items, A arrows, S inventory slots, K counters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import EVENTS

SIZE = 64
"""Blocks along x and along z; outside is an invisible wall."""
HEIGHT = 32
VOLUME = SIZE * SIZE * HEIGHT
STRIDE_X = SIZE * HEIGHT
STRIDE_Z = HEIGHT
STRIDE_Y = 1

TILE = 8
"""Columns along each side of a tile; a ray can pass over a tile in one step."""
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
        ("z", "f8"),  # x, y, z: the middle of the feet
        ("vx", "f8"),
        ("vy", "f8"),
        ("vz", "f8"),  # blocks per tick
        ("yaw", "f8"),
        ("pitch", "f8"),  # degrees; yaw 0 looks to +z, 90 to -x; pitch 90 looks down
        ("fall", "f8"),  # blocks fallen so far
        ("rng", "u8"),
        ("mission", "u8"),  # the mission's seed, from which all its land follows
        ("target", "i8"),  # the block being mined, -1 none
        ("health", "f4"),
        ("progress", "f4"),  # of the block being mined, 1 breaks it; as float64, dirt would take a tick too many
        ("tick", "i4"),  # of the episode
        ("time_limit", "i4"),  # ticks
        ("biome", "i4"),
        ("near", "i4"),  # the block that the player starts next to, -1 none
        ("top", "i4"),  # no block is at this height or above
        ("ground", "i4"),  # the usual height of the ground
        ("hotbar", "i4"),
        ("jump_delay", "i4"),
        ("mine_delay", "i4"),
        ("since_blow", "i4"),  # ticks since the last blow
        ("use_delay", "i4"),  # ticks until a held use key acts again
        ("draw_slot", "i4"),  # of the bow being drawn, -1 none
        ("draw_ticks", "i4"),  # since it started being drawn
        ("swing", "i4"),  # ticks left of the arm's swing
        ("air", "i4"),  # ticks of breath
        ("hurt", "i4"),  # ticks left of the flash
        ("mending", "i4"),  # ticks below full health since it last healed
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
        ("kind", "i4"),  # index in names.MOBS, -1 none
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
        ("vz", "f8"),  # blocks per tick
        ("bearing", "f8"),
        ("climb", "f8"),  # radians; bearing: from +x towards +z; climb: upwards
        ("cell", "i8"),  # of the block that it sticks in
        ("age", "i4"),
        ("state", "i4"),  # 0 none, FLYING, STUCK
        ("critical", "u1"),  # from a fully drawn bow
    ],
    align=True,
)

SLOT = np.dtype([("item", "i4"), ("count", "i4"), ("wear", "i4")], align=True)

COUNTERS: dict[tuple[str, str], int] = {
    pair: column for column, pair in enumerate((event, thing) for event, things in EVENTS.items() for thing in things)
}
"""(event, object) -> its column of `World.counter`."""


def first_column(event: str) -> int:
    """The column of an event's first object; the others follow in the order of `names.EVENTS`."""
    return COUNTERS[event, EVENTS[event][0]]


class World(NamedTuple):
    """N worlds, each in a mission."""

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
    """[N, SIZE * SIZE] height of the highest block of a column, at x * SIZE + z: what is lower is in the shade"""
    tile_roof: NDArray[np.uint8]
    """[N, TILES * TILES] at least the highest roof of a tile; placing raises it, mining does not lower it"""
    counter: NDArray[np.float64]
    """[N, K] totals since the start of the episode"""


def new_world(num_worlds: int, num_mobs: int) -> World:
    """Arrays for N worlds in which no mission has started."""
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
