"""What the player sees of the land: one ray a pixel through the blocks, with fog, shade and clear water.

The picture shows the frustum of a 16:9 screen with 70 degrees of height, whatever its own shape.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES
from mineonline.envs.world.art import FACE_TEXTURE, TEXELS, TEXTURE_ID
from mineonline.envs.world.blocks import AIR, WATER
from mineonline.envs.world.jit import inlined, kernel
from mineonline.envs.world.physics import Blocks, eye_height
from mineonline.envs.world.state import HEIGHT, SIZE, STRIDE_X, STRIDE_Z, TILE, TILES, VOLUME, Record

Image = NDArray[np.uint8]
"""[height, width, 3]"""
Depth = NDArray[np.float32]
"""[height, width] blocks from the eye to what a pixel shows"""

TAN_Y = math.tan(math.radians(70.0 / 2))
TAN_X = TAN_Y * 16.0 / 9.0
VIEW = 48.0
"""Blocks; what is farther is sky."""
_FOG_FROM = 24.0
_MISS = -1
_HEIGHT_BITS = HEIGHT.bit_length() - 1
_DRY = -2.0
_FAR = 1e30

_ZENITH, _HORIZON = (116.0, 162.0, 250.0), (190.0, 212.0, 252.0)
_WATER_COLOUR = (44.0, 82.0, 190.0)
_SHADE = 0.74
# the sides east and west, top and bottom, north and south
_FACE_LIGHT = (0.64, 1.0, 0.82)
_BOTTOM_LIGHT = 0.5
# beyond the edge of the world a plain of this colour goes on
_GROUND_TEXTURE = np.array(
    [
        TEXTURE_ID["sand" if biome == "desert" else "snow_block" if biome == "snowy_taiga" else "grass_top"]
        for biome in BIOMES
    ]
)
# where the copies of 16, 8, 4, 2 and 1 texels a side begin
_COPY_OFFSET = np.array([0, 256, 320, 336, 340])
_CRACK_PRIMES = (73, 151)

Atlas = NDArray[np.uint8]
"""[T * TEXELS, 3]"""
Vector = tuple[float, float, float]
Colour = tuple[float, float, float]
"""0 to 255"""
Axes = tuple[float, float, float, float, float, float, float, float, float]
"""Forward, right and up of the view, one after the other."""


@kernel
def view_axes(player: Record) -> Axes:
    """Unit vectors of the view; right and up are scaled to the edge of the picture at distance 1."""
    yaw, pitch = math.radians(player.yaw), math.radians(player.pitch)
    sy, cy, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return (
        -sy * cp, -sp, cy * cp,
        -cy * TAN_X, 0.0, -sy * TAN_X,
        -sy * sp * TAN_Y, cp * TAN_Y, cy * sp * TAN_Y,
    )  # fmt: skip


@inlined
def ray(axes: Axes, right: float, up: float) -> Vector:
    """Unit vector through a point of the picture; the edges are at -1 and 1."""
    x = axes[0] + right * axes[3] + up * axes[6]
    y = axes[1] + right * axes[4] + up * axes[7]
    z = axes[2] + right * axes[5] + up * axes[8]
    scale = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


@inlined
def texel(atlas: Atlas, texture: int, u: float, v: float, texels_a_pixel: float) -> Colour:
    """Colour of a texture at (u, v) in [0, 1), from a copy that is no finer than the pixel."""
    # a sum of comparisons: the processor would guess wrong at the branches of a search
    copy = (
        int(texels_a_pixel > 1.4) + int(texels_a_pixel > 2.8) + int(texels_a_pixel > 5.6) + int(texels_a_pixel > 11.2)
    )
    size = 16 >> copy
    place = texture * TEXELS + _COPY_OFFSET[copy] + int(v * size) * size + int(u * size)
    return float(atlas[place, 0]), float(atlas[place, 1]), float(atlas[place, 2])


@inlined
def _scan_column(
    block: Blocks, first_cell: int, peak: int, eye_y: float, dy: float, y_in: float, y_out: float
) -> tuple[int, float, float]:
    """What a ray meets in a column that it crosses from height `y_in` to `y_out`, and whose highest block is `peak`.

    The cell or _MISS; the distance, negative if it is met where the ray enters the column; the distance at which water
    begins, _DRY if there is none, negative likewise.
    """
    step = -1 if dy < 0 else 1
    j, last = int(y_in), int(max(0.0, y_out))
    entered_at_side = True
    if dy < 0 and j > peak:
        j, entered_at_side = peak, False
    elif dy >= 0:
        last = min(last, peak)
    water = _DRY
    while (last - j) * step >= 0:
        kind = block[first_cell + j]
        if kind != AIR:
            distance = -1.0 if entered_at_side else (j + (1 if dy < 0 else 0) - eye_y) / dy
            if kind != WATER:
                return first_cell + j, distance, water
            if water == _DRY:
                water = distance
        entered_at_side = False
        j += step
    return _MISS, 0.0, water


@inlined
def _walk_tile(
    block: Blocks, roof: Blocks, eye: Vector, d: Vector, tile_x: int, tile_z: int, near: float, far: float, axis: int
) -> tuple[int, float, int, float]:
    """What a ray meets in a tile between two distances, column by column; see `_trace`."""
    x, y, z = eye
    dx, dy, dz = d
    # rounding must not carry a ray into a column of another tile
    i = min(tile_x + TILE - 1, max(tile_x, int(x + dx * near)))
    k = min(tile_z + TILE - 1, max(tile_z, int(z + dz * near)))
    per_x = _FAR if dx == 0.0 else abs(1.0 / dx)
    per_z = _FAR if dz == 0.0 else abs(1.0 / dz)
    next_x = per_x * (i + 1 - x if dx > 0 else x - i)
    next_z = per_z * (k + 1 - z if dz > 0 else z - k)
    step_x, step_z = (SIZE if dx > 0 else -SIZE), (1 if dz > 0 else -1)
    column = i * SIZE + k
    distance, y_in, water = near, y + dy * near, _DRY
    while True:
        leaves = min(next_x, next_z, far)
        y_out = y + dy * leaves
        peak = int(roof[column])
        if min(y_in, y_out) < peak + 1:
            cell, met, wet = _scan_column(block, column * HEIGHT, peak, y, dy, y_in, y_out)
            if water == _DRY and wet != _DRY:
                water = max(wet, distance)
            if cell != _MISS:
                return cell, max(met, distance), axis if met < 0.0 else 1, water
        if leaves >= far:
            return _MISS, far, axis, water
        distance, y_in = leaves, y_out
        if next_x < next_z:
            next_x, column, axis = next_x + per_x, column + step_x, 0
        else:
            next_z, column, axis = next_z + per_z, column + step_z, 2


@inlined
def _trace(
    block: Blocks, roof: Blocks, tile_roof: Blocks, top: int, eye: Vector, d: Vector
) -> tuple[int, float, int, float]:
    """The block that a ray meets: its cell (_MISS), distance, the axis of its face, and where water began (_DRY).

    It goes from tile to tile, looks at the columns of a tile only where it is not above the tile's roof, and into a
    column only where it is not above the column's. Nothing is at height `top` or above.
    """
    x, y, z = eye
    dx, dy, dz = d
    tile_x, tile_z = int(x) // TILE * TILE, int(z) // TILE * TILE
    per_x = _FAR if dx == 0.0 else abs(1.0 / dx)
    per_z = _FAR if dz == 0.0 else abs(1.0 / dz)
    next_x = per_x * (tile_x + TILE - x if dx > 0 else x - tile_x)
    next_z = per_z * (tile_z + TILE - z if dz > 0 else z - tile_z)
    end = min(VIEW, per_x * (SIZE - x if dx > 0 else x), per_z * (SIZE - z if dz > 0 else z)) - 1e-5
    if dy > 0:
        end = min(end, max(0.0, (top - y) / dy))
    near, axis, y_in, water = 0.0, 1, y, _DRY
    while True:
        far = min(next_x, next_z, end)
        y_out = y + dy * far
        if min(y_in, y_out) < tile_roof[tile_x // TILE * TILES + tile_z // TILE] + 1:
            cell, distance, axis, wet = _walk_tile(block, roof, eye, d, tile_x, tile_z, near, far, axis)
            water = wet if water == _DRY else water
            if cell != _MISS:
                return cell, distance, axis, water
        if far >= end:
            return _MISS, far, axis, water
        near, y_in = far, y_out
        if next_x < next_z:
            next_x, tile_x, axis = next_x + TILE * per_x, tile_x + (TILE if dx > 0 else -TILE), 0
        else:
            next_z, tile_z, axis = next_z + TILE * per_z, tile_z + (TILE if dz > 0 else -TILE), 2


@inlined
def _crack(progress: float, u: float, v: float) -> float:
    """Darkening of a block that is being mined, more of it as it goes on."""
    scattered = int(u * 16) * _CRACK_PRIMES[0] + int(v * 16) * _CRACK_PRIMES[1]
    place = scattered * scattered >> 4 & 15
    return 0.5 if place < 9.0 * progress else 1.0


@inlined
def _land_colour(
    block: Blocks, roof: Blocks, atlas: Atlas, cell: int, axis: int, looked_at: int, progress: float,
    point: Vector, d: Vector, texels: float,
) -> Colour:  # fmt: skip
    """Colour of a block's face at a point of it, without fog."""
    u, v = point[0] - int(point[0]), point[2] - int(point[2])
    face, light, front = 2, _FACE_LIGHT[axis], cell
    if axis == 1:
        face = 1 if d[1] > 0 else 0
        light = _BOTTOM_LIGHT if d[1] > 0 else light
        texels *= min(3.0, 1.0 / max(1e-3, abs(d[1])))
    else:
        u = v if axis == 0 else u
        v = 1.0 - (point[1] - int(point[1]))
        v = min(v, 0.999)
        # the light of a side is that of the cell in front of it
        front += (-STRIDE_X if d[0] > 0 else STRIDE_X) if axis == 0 else (-STRIDE_Z if d[2] > 0 else STRIDE_Z)
    if cell == looked_at:
        near_edge = min(u, v, 1.0 - u, 1.0 - v) < 0.02
        light *= 0.35 if near_edge else _crack(progress, u, v) if progress > 0.0 else 1.0
    if 0 <= front < VOLUME and (front & (HEIGHT - 1)) < roof[front >> _HEIGHT_BITS]:
        light *= _SHADE
    red, green, blue = texel(atlas, FACE_TEXTURE[block[cell], face], u, v, texels)
    return red * light, green * light, blue * light


@inlined
def _sky_colour(dy: float) -> Colour:
    high = min(1.0, max(0.0, dy * 2.2))
    low = 1.0 - high
    return (
        _HORIZON[0] * low + _ZENITH[0] * high,
        _HORIZON[1] * low + _ZENITH[1] * high,
        _HORIZON[2] * low + _ZENITH[2] * high,
    )


@inlined
def in_fog(colour: Colour, distance: float) -> Colour:
    """A colour as it looks from a distance."""
    fog = min(1.0, max(0.0, (distance - _FOG_FROM) / (VIEW - _FOG_FROM)))
    clear = 1.0 - fog
    return (
        colour[0] * clear + _HORIZON[0] * fog,
        colour[1] * clear + _HORIZON[1] * fog,
        colour[2] * clear + _HORIZON[2] * fog,
    )


@inlined
def _mixed(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b, the rest of a."""
    rest = 1.0 - share
    return a[0] * rest + b[0] * share, a[1] * rest + b[1] * share, a[2] * rest + b[2] * share


@kernel
def eye_of(player: Record) -> Vector:
    """Where the player's eyes are."""
    return player.x, player.y + eye_height(player), player.z


@inlined
def _pixel_colour(
    block: Blocks, roof: Blocks, tile_roof: Blocks, atlas: Atlas, player: Record, looked_at: int,
    eye: Vector, d: Vector, texels_at_one: float,
) -> tuple[Colour, float]:  # fmt: skip
    """Colour along a ray, and the distance of what is seen there."""
    cell, distance, axis, water = _trace(block, roof, tile_roof, player.top, eye, d)
    if cell != _MISS:
        point = (eye[0] + d[0] * distance, eye[1] + d[1] * distance, eye[2] + d[2] * distance)
        texels = distance * texels_at_one
        colour = _land_colour(block, roof, atlas, cell, axis, looked_at, player.progress, point, d, texels)
        colour = in_fog(colour, distance)
    elif d[1] < -1e-3:
        distance = max(distance, (eye[1] - player.ground) / -d[1])
        colour = in_fog(texel(atlas, _GROUND_TEXTURE[player.biome], 0.0, 0.0, 16.0), distance)
    else:
        distance, colour = VIEW, _sky_colour(d[1])
    if water != _DRY:
        murk = 0.5 + 0.45 * min(1.0, (distance - water) / 8.0)
        colour = in_fog(_mixed(colour, _WATER_COLOUR, murk), water)
    return colour, distance


@kernel
def draw_land(
    image: Image, depth: Depth, block: Blocks, roof: Blocks, tile_roof: Blocks, player: Record, atlas: Atlas,
    looked_at: int,
) -> None:  # fmt: skip
    """Fill a picture with land, water and sky, and its depths. `looked_at` is the cell under the crosshair."""
    height, width = depth.shape
    eye, axes = eye_of(player), view_axes(player)
    texels_at_one = 16.0 * 2.0 * TAN_Y / height
    for row in range(height):
        up = 1.0 - (row + 0.5) * 2.0 / height
        for column in range(width):
            d = ray(axes, (column + 0.5) * 2.0 / width - 1.0, up)
            colour, distance = _pixel_colour(block, roof, tile_roof, atlas, player, looked_at, eye, d, texels_at_one)
            depth[row, column] = distance
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = colour
