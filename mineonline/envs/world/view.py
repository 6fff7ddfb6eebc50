"""What the player sees of the land: one ray a pixel through the blocks, with fog, shade, and water that one sees through.

The picture shows the frustum of a 16:9 screen with 70 degrees of height, whatever its own shape.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES
from mineonline.envs.world.art import FACE_TEXTURE, TEXTURE_ID
from mineonline.envs.world.blocks import AIR, WATER
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.physics import Blocks, eye_height
from mineonline.envs.world.state import SIZE, STRIDE_X, STRIDE_Y, STRIDE_Z, Record

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
_CRACK_PRIMES = (31, 57)

Eye = tuple[float, float, float]
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


@kernel
def ray(axes: Axes, right: float, up: float) -> tuple[float, float, float]:
    """Unit vector through a point of the picture; the edges are at -1 and 1."""
    x = axes[0] + right * axes[3] + up * axes[6]
    y = axes[1] + right * axes[4] + up * axes[7]
    z = axes[2] + right * axes[5] + up * axes[8]
    scale = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * scale, y * scale, z * scale


@kernel
def texel(texture: NDArray[np.uint8], u: float, v: float, texels_a_pixel: float) -> tuple[float, float, float]:
    """Colour of a texture at (u, v) in [0, 1), from a copy that is no finer than the pixel."""
    size, offset = 16, 0
    while texels_a_pixel > 1.4 and size > 1:
        offset += size * size
        size //= 2
        texels_a_pixel *= 0.5
    place = offset + min(size - 1, int(v * size)) * size + min(size - 1, int(u * size))
    return float(texture[place, 0]), float(texture[place, 1]), float(texture[place, 2])


@kernel
def _leaves_box_at(x: float, z: float, y: float, dx: float, dy: float, dz: float, top: float) -> float:
    """Distance at which a ray leaves the box of the world, or the view."""
    end = VIEW
    if dx > 0.0:
        end = min(end, (SIZE - x) / dx)
    elif dx < 0.0:
        end = min(end, -x / dx)
    if dz > 0.0:
        end = min(end, (SIZE - z) / dz)
    elif dz < 0.0:
        end = min(end, -z / dz)
    if dy > 0.0:
        end = min(end, (top - y) / dy)
    # rounding must not carry a ray into a cell outside
    return end - 1e-5


@kernel
def _trace(block: Blocks, eye: Eye, top: int, dx: float, dy: float, dz: float) -> tuple[int, float, int, float]:
    """The block that a ray meets: its cell (_MISS), distance, the axis of its face, and where water began (-1 nowhere)."""
    x, y, z = eye
    distance = 0.0
    if y >= top:
        if dy >= 0.0:
            return _MISS, VIEW, 1, -1.0
        distance = (y - top) / -dy + 1e-6
        x, y, z = x + dx * distance, top - 1e-6, z + dz * distance
        if not (0.0 < x < SIZE and 0.0 < z < SIZE):
            return _MISS, VIEW, 1, -1.0
    end = _leaves_box_at(x, z, y, dx, dy, dz, float(top))
    i, j, k = int(x), int(y), int(z)
    per_x = _FAR if dx == 0.0 else abs(1.0 / dx)
    per_y = _FAR if dy == 0.0 else abs(1.0 / dy)
    per_z = _FAR if dz == 0.0 else abs(1.0 / dz)
    next_x = per_x * (i + 1 - x if dx > 0 else x - i)
    next_y = per_y * (j + 1 - y if dy > 0 else y - j)
    next_z = per_z * (k + 1 - z if dz > 0 else z - k)
    step_x = STRIDE_X if dx > 0 else -STRIDE_X
    step_y = STRIDE_Y if dy > 0 else -STRIDE_Y
    step_z = STRIDE_Z if dz > 0 else -STRIDE_Z
    cell = i * STRIDE_X + k * STRIDE_Z + j
    # a ray that comes from above the box meets the top of the cell that it starts in
    axis, travelled = 1, 0.0
    water = -1.0
    while True:
        kind = block[cell]
        if kind != AIR:
            if kind != WATER:
                return cell, distance + travelled, axis, water
            if water < 0.0:
                water = distance + travelled
        if next_x < next_y and next_x < next_z:
            travelled, next_x, cell, axis = next_x, next_x + per_x, cell + step_x, 0
        elif next_y < next_z:
            travelled, next_y, cell, axis = next_y, next_y + per_y, cell + step_y, 1
        else:
            travelled, next_z, cell, axis = next_z, next_z + per_z, cell + step_z, 2
        if travelled >= end:
            return _MISS, distance + travelled, axis, water


@kernel
def _crack(progress: float, u: float, v: float) -> float:
    """Darkening of a block that is being mined, more of it as it goes on."""
    place = (int(u * 16) * _CRACK_PRIMES[0] + int(v * 16) * _CRACK_PRIMES[1] + int(u * 16) * int(v * 16)) % 16
    return 0.5 if place < 9.0 * progress else 1.0


@kernel
def _land_colour(
    block: Blocks, roof: Blocks, atlas: NDArray[np.uint8], cell: int, axis: int, looked_at: int, progress: float,
    x: float, y: float, z: float, dx: float, dy: float, dz: float, texels: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Colour of a block's face at a point of it, without fog."""
    u, v = x - math.floor(x), z - math.floor(z)
    face, light = 2, _FACE_LIGHT[axis]
    front = cell
    if axis == 1:
        face = 1 if dy > 0 else 0
        light = _BOTTOM_LIGHT if dy > 0 else light
        texels /= max(0.3, abs(dy))
    else:
        u = v if axis == 0 else u
        v = 1.0 - (y - math.floor(y))
        texels /= max(0.3, abs(dx) if axis == 0 else abs(dz))
        # the light of a side is that of the cell in front of it
        front += (-STRIDE_X if dx > 0 else STRIDE_X) if axis == 0 else (-STRIDE_Z if dz > 0 else STRIDE_Z)
    if cell == looked_at:
        near_edge = min(u, v, 1.0 - u, 1.0 - v) < 0.02
        light *= 0.35 if near_edge else _crack(progress, u, v) if progress > 0.0 else 1.0
    if 0 <= front < block.shape[0] and front % STRIDE_Z < roof[front // STRIDE_Z]:
        light *= _SHADE
    red, green, blue = texel(atlas[FACE_TEXTURE[block[cell], face]], u, v, texels)
    return red * light, green * light, blue * light


@kernel
def _sky_colour(dy: float) -> tuple[float, float, float]:
    high = min(1.0, max(0.0, dy * 2.2))
    low = 1.0 - high
    return (
        _HORIZON[0] * low + _ZENITH[0] * high,
        _HORIZON[1] * low + _ZENITH[1] * high,
        _HORIZON[2] * low + _ZENITH[2] * high,
    )


@kernel
def in_fog(colour: tuple[float, float, float], distance: float) -> tuple[float, float, float]:
    """A colour as it looks from a distance."""
    fog = min(1.0, max(0.0, (distance - _FOG_FROM) / (VIEW - _FOG_FROM)))
    clear = 1.0 - fog
    return (
        colour[0] * clear + _HORIZON[0] * fog,
        colour[1] * clear + _HORIZON[1] * fog,
        colour[2] * clear + _HORIZON[2] * fog,
    )


@kernel
def _mixed(a: tuple[float, float, float], b: tuple[float, float, float], share: float) -> tuple[float, float, float]:
    """`share` of b, the rest of a."""
    rest = 1.0 - share
    return a[0] * rest + b[0] * share, a[1] * rest + b[1] * share, a[2] * rest + b[2] * share


@kernel
def eye_of(player: Record) -> Eye:
    """Where the player's eyes are."""
    return player.x, player.y + eye_height(player), player.z


@kernel
def draw_land(
    image: Image, depth: Depth, block: Blocks, roof: Blocks, player: Record, atlas: NDArray[np.uint8], looked_at: int
) -> None:
    """Fill a picture with land, water and sky, and its depths. `looked_at` is the cell under the crosshair."""
    height, width = depth.shape
    eye, axes, top = eye_of(player), view_axes(player), player.top
    texels_at_one = 16.0 * 2.0 * TAN_Y / height
    progress = float(player.progress)
    ground = atlas[_GROUND_TEXTURE[player.biome]]
    for row in range(height):
        up = 1.0 - (row + 0.5) * 2.0 / height
        for column in range(width):
            dx, dy, dz = ray(axes, (column + 0.5) * 2.0 / width - 1.0, up)
            cell, distance, axis, water = _trace(block, eye, top, dx, dy, dz)
            if cell >= 0:
                colour = _land_colour(
                    block, roof, atlas, cell, axis, looked_at, progress,
                    eye[0] + dx * distance, eye[1] + dy * distance, eye[2] + dz * distance,
                    dx, dy, dz, distance * texels_at_one,
                )  # fmt: skip
                colour = in_fog(colour, distance)
            elif dy < -1e-3:
                distance = max(distance, (eye[1] - player.ground) / -dy)
                colour = in_fog(texel(ground, 0.0, 0.0, 16.0), distance)
            else:
                distance, colour = VIEW, _sky_colour(dy)
            if water >= 0.0:
                murk = 0.5 + 0.45 * min(1.0, (distance - water) / 8.0)
                colour = in_fog(_mixed(colour, _WATER_COLOUR, murk), water)
            depth[row, column] = distance
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = colour
