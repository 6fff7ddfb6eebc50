"""Finds the block that a ray hits.

A ray starts at the eye and has the direction `d`, of any length; distances along it are in units of that length.
"""

from __future__ import annotations

from mineonline.envs.world.blocks import AIR, WATER
from mineonline.envs.world.camera import Vector
from mineonline.envs.world.jit import inlined
from mineonline.envs.world.physics import Blocks
from mineonline.envs.world.state import HEIGHT, SIZE, TILE, TILES

MISS = -1
"""In place of a cell: no block is hit."""
DRY = -2.0
"""In place of a distance: there is no water."""


@inlined
def _scan_column(
    block: Blocks, first_cell: int, peak: int, eye_y: float, dy: float, per_y: float, y_in: float, y_out: float
) -> tuple[int, float, float]:
    """What a ray hits in a column that it crosses from height `y_in` to `y_out`, and whose highest block is at `peak`.

    The cell or MISS; its distance, negative if it is hit where the ray enters the column; and the distance at which
    water starts, DRY if there is none, negative likewise.
    """
    j, last, water, distance = int(y_in), int(max(0.0, y_out)), DRY, -1.0
    if dy < 0:
        if j > peak:
            j, distance = peak, (eye_y - peak - 1) * per_y
        while j >= last:
            kind = block[first_cell + j]
            if kind != AIR:
                if kind != WATER:
                    return first_cell + j, distance, water
                if water == DRY:
                    water = distance
            distance = (eye_y - j) * per_y
            j -= 1
    else:
        last = min(last, peak)
        while j <= last:
            kind = block[first_cell + j]
            if kind != AIR:
                if kind != WATER:
                    return first_cell + j, distance, water
                if water == DRY:
                    water = distance
            j += 1
            distance = (j - eye_y) * per_y
    return MISS, 0.0, water


@inlined
def _walk_tile(
    block: Blocks, roof: Blocks, eye: Vector, d: Vector, per: Vector, tile_x: int, tile_z: int,
    near: float, far: float, axis: int,
) -> tuple[int, float, int, float]:  # fmt: skip
    """What a ray hits in a tile between two distances, column by column; see `trace`."""
    x, y, z = eye
    dx, dy, dz = d
    # rounding must not carry a ray into a column of another tile
    i = min(tile_x + TILE - 1, max(tile_x, int(x + dx * near)))
    k = min(tile_z + TILE - 1, max(tile_z, int(z + dz * near)))
    next_x = per[0] * (i + 1 - x if dx > 0 else x - i)
    next_z = per[2] * (k + 1 - z if dz > 0 else z - k)
    step_x, step_z = (SIZE if dx > 0 else -SIZE), (1 if dz > 0 else -1)
    column = i * SIZE + k
    distance, y_in, water = near, y + dy * near, DRY
    while True:
        leaves = min(next_x, next_z, far)
        y_out = y + dy * leaves
        peak = int(roof[column])
        if min(y_in, y_out) < peak + 1:
            cell, met, wet = _scan_column(block, column * HEIGHT, peak, y, dy, per[1], y_in, y_out)
            if water == DRY and wet != DRY:
                water = max(wet, distance)
            if cell != MISS:
                return cell, max(met, distance), axis if met < 0.0 else 1, water
        if leaves >= far:
            return MISS, far, axis, water
        distance, y_in = leaves, y_out
        if next_x < next_z:
            next_x, column, axis = next_x + per[0], column + step_x, 0
        else:
            next_z, column, axis = next_z + per[2], column + step_z, 2


@inlined
def trace(
    block: Blocks, roof: Blocks, tile_roof: Blocks, top: int, eye: Vector, d: Vector, per: Vector, end: float
) -> tuple[int, float, int, float]:
    """The block that a ray hits: its cell (or MISS), distance, the axis of its face, and where water starts (or DRY).

    `per` is the finite distance between cells along each axis, `end` how far to look. The ray goes from tile to tile;
    it looks at the columns of a tile only below the tile's roof, and into a column only below the column's. No block
    is at height `top` or above.
    """
    x, y, z = eye
    dx, dy, dz = d
    tile = int(x) // TILE * TILES + int(z) // TILE
    tile_x, tile_z = int(x) // TILE * TILE, int(z) // TILE * TILE
    next_x = per[0] * (tile_x + TILE - x if dx > 0 else x - tile_x)
    next_z = per[2] * (tile_z + TILE - z if dz > 0 else z - tile_z)
    end = min(end, per[0] * (SIZE - x if dx > 0 else x), per[2] * (SIZE - z if dz > 0 else z)) - 1e-5
    if dy > 0:
        end = min(end, max(0.0, (top - y) * per[1]))
    near, axis, y_in, water = 0.0, 1, y, DRY
    while True:
        far = min(next_x, next_z, end)
        y_out = y + dy * far
        ceiling = tile_roof[tile] + 1
        if min(y_in, y_out) < ceiling:
            start, stop = near, far
            if dy > 0:
                stop = min(far, (ceiling - y) * per[1])
            elif y_in > ceiling:
                # the ray enters from above, not through a side
                start, axis = min(far, (y - ceiling) * per[1]), 1
            cell, distance, axis, wet = _walk_tile(block, roof, eye, d, per, tile_x, tile_z, start, stop, axis)
            water = wet if water == DRY else water
            if cell != MISS:
                return cell, distance, axis, water
        if far >= end:
            return MISS, far, axis, water
        near, y_in = far, y_out
        if next_x < next_z:
            next_x, axis = next_x + TILE * per[0], 0
            tile, tile_x = (tile + TILES, tile_x + TILE) if dx > 0 else (tile - TILES, tile_x - TILE)
        else:
            next_z, axis = next_z + TILE * per[2], 2
            tile, tile_z = (tile + 1, tile_z + TILE) if dz > 0 else (tile - 1, tile_z - TILE)
