"""What the player sees of the land: one ray per pixel through the blocks, with fog, shade and clear water."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES
from mineonline.envs.world.art import FACE_TEXTURE, TEXELS, TEXTURE_ID
from mineonline.envs.world.camera import TAN_X, TAN_Y, Axes, Shape, Vector, eye_of, screen_rect, view_axes
from mineonline.envs.world.jit import inlined, kernel
from mineonline.envs.world.physics import Blocks
from mineonline.envs.world.state import HEIGHT, STRIDE_X, STRIDE_Z, TILE, TILES, VOLUME, Record
from mineonline.envs.world.trace import DRY, MISS, trace

Image = NDArray[np.uint8]
"""[height, width, 3]"""
Depth = NDArray[np.float32]
"""[height, width] blocks from the eye to what a pixel shows"""

VIEW = 48.0
"""How far the player sees, in blocks; beyond is sky."""
_FOG_FROM = 24.0
_HEIGHT_BITS = HEIGHT.bit_length() - 1

_ZENITH, _HORIZON = (116.0, 162.0, 250.0), (190.0, 212.0, 252.0)
_WATER_COLOUR = (44.0, 82.0, 190.0)
_SHADE = 0.74
# by axis of the face: east and west, top and bottom, north and south
_FACE_LIGHT = (0.64, 1.0, 0.82)
_BOTTOM_LIGHT = 0.5
# the plain that is seen beyond the edge of the world has the colour of this texture
_GROUND_TEXTURE = np.array(
    [
        TEXTURE_ID["sand" if biome == "desert" else "snow_block" if biome == "snowy_taiga" else "grass_top"]
        for biome in BIOMES
    ]
)
# where the copies of 16, 8, 4, 2 and 1 texels a side start
_COPY_OFFSET = np.array([0, 256, 320, 336, 340])
_CRACK_PRIMES = (73, 151)

Atlas = NDArray[np.uint8]
"""[T * TEXELS, 3]"""
Colour = tuple[float, float, float]
"""0 to 255"""


@inlined
def texel(atlas: Atlas, texture: int, u: float, v: float, texels_a_pixel: float) -> Colour:
    """Colour of a texture at (u, v) in [0, 1), from a copy that is no finer than the pixel."""
    # a sum of comparisons: the processor would mispredict the branches of a search
    copy = (
        int(texels_a_pixel > 1.4) + int(texels_a_pixel > 2.8) + int(texels_a_pixel > 5.6) + int(texels_a_pixel > 11.2)
    )
    size = 16 >> copy
    index = texture * TEXELS + _COPY_OFFSET[copy] + int(v * size) * size + int(u * size)
    return float(atlas[index, 0]), float(atlas[index, 1]), float(atlas[index, 2])


@inlined
def _crack(progress: float, u: float, v: float) -> float:
    """Brightness of a point on a block that is being mined: the more progress, the more points are dark."""
    scattered = int(u * 16) * _CRACK_PRIMES[0] + int(v * 16) * _CRACK_PRIMES[1]
    index = scattered * scattered >> 4 & 15
    return 0.5 if index < 9.0 * progress else 1.0


@inlined
def _land_colour(
    block: Blocks, roof: Blocks, atlas: Atlas, cell: int, axis: int, looked_at: int, progress: float,
    point: Vector, d: Vector, slope: float, texels: float,
) -> Colour:  # fmt: skip
    """Colour of a block's face at a point, without fog."""
    u, v = point[0] - int(point[0]), point[2] - int(point[2])
    face, light, front = 2, _FACE_LIGHT[axis], cell
    if axis == 1:
        face = 1 if d[1] > 0 else 0
        light = _BOTTOM_LIGHT if d[1] > 0 else light
        texels *= min(3.0, 1.0 / max(1e-3, abs(slope)))
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
    if distance <= _FOG_FROM:
        return colour
    fog = min(1.0, (distance - _FOG_FROM) / (VIEW - _FOG_FROM))
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


@inlined
def _pixel_colour(
    block: Blocks, roof: Blocks, tile_roof: Blocks, atlas: Atlas, player: Record, looked_at: int,
    eye: Vector, d: Vector, per: Vector, length: float, texels_at_one: float,
) -> tuple[Colour, float]:  # fmt: skip
    """Colour that is seen along a ray, and its distance in blocks. `length` is that of `d`."""
    cell, along, axis, water = trace(block, roof, tile_roof, player.top, eye, d, per, VIEW / length)
    distance, slope = along * length, d[1] / length
    if cell != MISS:
        point = (eye[0] + d[0] * along, eye[1] + d[1] * along, eye[2] + d[2] * along)
        texels = distance * texels_at_one
        colour = _land_colour(block, roof, atlas, cell, axis, looked_at, player.progress, point, d, slope, texels)
        colour = in_fog(colour, distance)
    elif slope < -1e-3:
        distance = max(distance, (eye[1] - player.ground) / -slope)
        colour = in_fog(texel(atlas, _GROUND_TEXTURE[player.biome], 0.0, 0.0, 16.0), distance)
    else:
        distance, colour = VIEW, _sky_colour(slope)
    if water != DRY:
        water = water * length
        murk = 0.5 + 0.45 * min(1.0, (distance - water) / 8.0)
        colour = in_fog(_mixed(colour, _WATER_COLOUR, murk), water)
    return colour, distance


@kernel
def _skyline(tile_roof: Blocks, eye: Vector, axes: Axes, shape: Shape) -> NDArray[np.int64]:
    """For each column of a picture, the first row in which land above the height of the eye can appear."""
    first_row = np.full(shape[1], shape[0])
    for tile in range(TILES * TILES):
        rise = tile_roof[tile] + 1 - eye[1]
        if rise > 0.0:
            x, z = tile // TILES * TILE - eye[0], tile % TILES * TILE - eye[2]
            top, _, left, right = screen_rect(axes, (x, x + TILE, 0.0, rise, z, z + TILE), shape)
            for column in range(left, right):
                first_row[column] = min(first_row[column], top)
    return first_row


@kernel
def _aim(rays: NDArray[np.float64], axes: Axes, up: float) -> None:
    """Fill in the rays of a row of the picture: x, z, the distances between cells along x and along z, the length.

    One loop over arrays, without branches, so that the compiler can vectorise it.
    """
    width = rays.shape[1]
    for column in range(width):
        right = (column + 0.5) * 2.0 / width - 1.0
        x = axes[0] + right * axes[3] + up * axes[6]
        z = axes[2] + right * axes[5] + up * axes[8]
        rays[0, column], rays[1, column] = x, z
        rays[2, column], rays[3, column] = 1.0 / max(1e-9, abs(x)), 1.0 / max(1e-9, abs(z))
        # forward, right and up are at right angles
        rays[4, column] = math.sqrt(1.0 + right * right * (TAN_X * TAN_X) + up * up * (TAN_Y * TAN_Y))


@kernel
def draw_land(
    image: Image, depth: Depth, block: Blocks, roof: Blocks, tile_roof: Blocks, player: Record, atlas: Atlas,
    looked_at: int,
) -> None:  # fmt: skip
    """Draw land, water and sky, and fill in the depths. `looked_at` is the cell under the crosshair."""
    height, width = depth.shape
    eye, axes = eye_of(player), view_axes(player)
    texels_at_one = 16.0 * 2.0 * TAN_Y / height
    skyline = _skyline(tile_roof, eye, axes, depth.shape)
    rays = np.empty((5, width))
    for row in range(height):
        up = 1.0 - (row + 0.5) * 2.0 / height
        _aim(rays, axes, up)
        # the view never rolls: all rays of a row have the same y
        y = axes[1] + up * axes[7]
        per_y = 1.0 / max(1e-9, abs(y))
        for column in range(width):
            length = rays[4, column]
            if y > 0.0 and row < skyline[column]:
                distance, colour = VIEW, _sky_colour(y / length)
            else:
                d, per = (rays[0, column], y, rays[1, column]), (rays[2, column], per_y, rays[3, column])
                colour, distance = _pixel_colour(
                    block, roof, tile_roof, atlas, player, looked_at, eye, d, per, length, texels_at_one
                )
            depth[row, column] = distance
            image[row, column, 0], image[row, column, 1], image[row, column, 2] = colour
