"""Draws animals, arrows and dropped items as boxes, wherever they are nearer than the land.

Axes: P boxes of a model.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import MOBS
from mineonline.envs.world.art import ITEM_TEXTURE, TEXTURE_ID
from mineonline.envs.world.blocks import NO_ITEM
from mineonline.envs.world.camera import TAN_Y, Axes, Vector, eye_of, screen_rect, view_axes
from mineonline.envs.world.jit import inlined, kernel
from mineonline.envs.world.state import Record, Records
from mineonline.envs.world.view import VIEW, Atlas, Colour, Depth, Image, in_fog, texel

_DYING_TICKS = 20.0
_RED = (214.0, 30.0, 30.0)
_LIGHT = (0.7, 1.0, 0.86)
_BOTTOM_LIGHT = 0.5
_STRIDE_BLOCKS = 0.22

# A box: x, y, z, each from and to, in sixteenths of a block (z points ahead, y up); how a leg swings (1 or -1, 0 for
# not at all); the pictures of the sides and of the front
_Box = tuple[tuple[float, float, float, float, float, float], float, str, str]


def _legs(height: float, out: float, hind: float, fore: float, picture: str) -> list[_Box]:
    return [
        ((x - 2, x + 2, 0.0, height, z - 2, z + 2), swing, picture, picture)
        for x, z, swing in ((-out, fore, 1.0), (out, fore, -1.0), (-out, hind, -1.0), (out, hind, 1.0))
    ]


_MODELS: dict[str, list[_Box]] = {
    "cow": [
        ((-6, 6, 12, 22, -9, 9), 0.0, "cow_hide", "cow_hide"),
        ((-4, 4, 16, 24, 9, 15), 0.0, "cow_head", "cow_face"),
        ((-5, -4, 22, 25, 11, 12), 0.0, "cow_horn", "cow_horn"),
        ((4, 5, 22, 25, 11, 12), 0.0, "cow_horn", "cow_horn"),
        ((-2, 2, 11, 12, -8, -2), 0.0, "cow_udder", "cow_udder"),
        *_legs(12, 4, -6, 6, "cow_leg"),
    ],
    "pig": [
        ((-5, 5, 6, 14, -8, 8), 0.0, "pig_skin", "pig_skin"),
        ((-4, 4, 8, 16, 6, 14), 0.0, "pig_skin", "pig_face"),
        ((-2, 2, 9, 12, 14, 15), 0.0, "pig_leg", "pig_skin"),
        *_legs(6, 3, -5, 5, "pig_leg"),
    ],
    "sheep": [
        ((-5.5, 5.5, 10.5, 20, -9, 7.5), 0.0, "sheep_wool", "sheep_wool"),
        ((-3, 3, 16, 22, 6, 13), 0.0, "sheep_head", "sheep_face"),
        ((-3.6, 3.6, 18, 22.6, 5.4, 11), 0.0, "sheep_wool", "sheep_wool"),
        *_legs(12, 3, -6, 5, "sheep_leg"),
    ],
}
_COUNTS = np.array([len(_MODELS[name]) for name in MOBS], np.int64)
_MOST = int(_COUNTS.max())
_BOXES = np.zeros((len(MOBS), _MOST, 6))
_SWING = np.zeros((len(MOBS), _MOST))
_PICTURES = np.zeros((len(MOBS), _MOST, 2), np.int64)
for _kind, _name in enumerate(MOBS):
    for _part, (_box, _swing, _side, _front) in enumerate(_MODELS[_name]):
        _BOXES[_kind, _part] = np.array(_box) / 16.0
        _SWING[_kind, _part] = _swing * _STRIDE_BLOCKS
        _PICTURES[_kind, _part] = TEXTURE_ID[_side], TEXTURE_ID[_front]

_LARGEST = 2.0
_ARROW_BOX = np.array([-0.62, 0.05, -0.03, 0.03, -0.03, 0.03])
_ITEM_BOX = np.array([-0.14, 0.14, 0.06, 0.34, -0.14, 0.14])
_TEXELS_A_BLOCK = 20.0

_ARROW_PICTURES = np.full(2, TEXTURE_ID["oak_planks"])

Pose = tuple[float, float, float, float]
"""Sine and cosine of a body's yaw, then of its roll."""


@inlined
def _into_body(v: Vector, pose: Pose) -> Vector:
    """A vector of the world in a body's coordinates: the body looks along its z, and may be rolled to its side."""
    x, y, z = v[0] * pose[1] + v[2] * pose[0], v[1], v[2] * pose[1] - v[0] * pose[0]
    return x * pose[3] + y * pose[2], y * pose[3] - x * pose[2], z


@kernel
def _axes_in_body(axes: Axes, pose: Pose) -> Axes:
    """The axes of the view in a body's coordinates."""
    forward = _into_body((axes[0], axes[1], axes[2]), pose)
    right = _into_body((axes[3], axes[4], axes[5]), pose)
    up = _into_body((axes[6], axes[7], axes[8]), pose)
    return (
        forward[0], forward[1], forward[2], right[0], right[1], right[2], up[0], up[1], up[2]
    )  # fmt: skip


@inlined
def _slab(low: float, high: float, eye: float, d: float) -> tuple[float, float]:
    """From and to which distance a ray is between two planes."""
    inverse = 1.0 / (d if abs(d) > 1e-9 else 1e-9)
    a, b = (low - eye) * inverse, (high - eye) * inverse
    return (a, b) if a < b else (b, a)


@inlined
def _hit_box(box: NDArray[np.float64], shift: float, eye: Vector, d: Vector) -> tuple[float, int]:
    """Distance along a ray to a box, infinite if it misses, and the axis of the face that it hits."""
    x0, x1 = _slab(box[0], box[1], eye[0], d[0])
    y0, y1 = _slab(box[2], box[3], eye[1], d[1])
    z0, z1 = _slab(box[4] + shift, box[5] + shift, eye[2], d[2])
    enter, axis = (x0, 0) if x0 > y0 else (y0, 1)
    if z0 > enter:
        enter, axis = z0, 2
    if enter < 0.0 or enter > min(x1, y1, z1):
        return np.inf, axis
    return enter, axis


@inlined
def _box_colour(
    box: NDArray[np.float64], shift: float, pictures: NDArray[np.int64], atlas: Atlas,
    point: Vector, d: Vector, axis: int, texels: float,
) -> Colour:  # fmt: skip
    """Colour of a box's face at a point; each picture is stretched over its face."""
    x = (point[0] - box[0]) / (box[1] - box[0])
    y = (point[1] - box[2]) / (box[3] - box[2])
    z = (point[2] - shift - box[4]) / (box[5] - box[4])
    u, v = z if axis == 0 else x, 1.0 - z if axis == 1 else 1.0 - y
    picture = pictures[1 if axis == 2 and d[2] < 0 else 0]
    light = _BOTTOM_LIGHT if axis == 1 and d[1] > 0 else _LIGHT[axis]
    red, green, blue = texel(atlas, picture, min(0.999, max(0.0, u)), min(0.999, max(0.0, v)), texels)
    return red * light, green * light, blue * light


@kernel
def _draw_box(
    image: Image, depth: Depth, axes: Axes, eye: Vector, box: NDArray[np.float64], shift: float,
    pictures: NDArray[np.int64], atlas: Atlas, redness: float,
) -> None:  # fmt: skip
    """Draw a box of a body where nothing nearer is drawn. `axes` (of the view) and `eye` are in its coordinates."""
    height, width = depth.shape
    bounds = (
        box[0] - eye[0], box[1] - eye[0], box[2] - eye[1], box[3] - eye[1],
        box[4] + shift - eye[2], box[5] + shift - eye[2],
    )  # fmt: skip
    first_row, end_row, first_column, end_column = screen_rect(axes, bounds, depth.shape)
    texels_at_one = _TEXELS_A_BLOCK * 2.0 * TAN_Y / height
    for row in range(first_row, end_row):
        up = 1.0 - (row + 0.5) * 2.0 / height
        for column in range(first_column, end_column):
            right = (column + 0.5) * 2.0 / width - 1.0
            # not normalised: only the pixels of the box pay for a square root
            d = (
                axes[0] + right * axes[3] + up * axes[6],
                axes[1] + right * axes[4] + up * axes[7],
                axes[2] + right * axes[5] + up * axes[8],
            )
            along, axis = _hit_box(box, shift, eye, d)
            if along == np.inf:
                continue
            distance = along * math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
            if distance >= depth[row, column]:
                continue
            point = (eye[0] + d[0] * along, eye[1] + d[1] * along, eye[2] + d[2] * along)
            colour = _box_colour(box, shift, pictures, atlas, point, d, axis, distance * texels_at_one)
            red, green, blue = in_fog(colour, distance)
            depth[row, column] = distance
            image[row, column, 0] = red * (1.0 - redness) + _RED[0] * redness
            image[row, column, 1] = green * (1.0 - redness) + _RED[1] * redness
            image[row, column, 2] = blue * (1.0 - redness) + _RED[2] * redness


@kernel
def _pose(yaw: float, roll: float) -> Pose:
    return math.sin(yaw), math.cos(yaw), math.sin(roll), math.cos(roll)


@kernel
def draw_mobs(image: Image, depth: Depth, mobs: Records, player: Record, atlas: Atlas) -> None:
    """Draw the animals: red after a hit, and falling onto their side as they die."""
    eye, axes = eye_of(player), view_axes(player)
    for m in range(mobs.shape[0]):
        mob = mobs[m]
        rel = (mob.x - eye[0], mob.y - eye[1], mob.z - eye[2])
        ahead = rel[0] * axes[0] + rel[1] * axes[1] + rel[2] * axes[2]
        if mob.kind < 0 or not -_LARGEST < ahead < VIEW:
            continue
        roll = 0.0 if mob.dying == 0 else math.pi / 2 * min(1.0, 2.0 * (1.0 - mob.dying / _DYING_TICKS))
        pose = _pose(math.radians(mob.yaw), roll)
        body_axes, body_eye = _axes_in_body(axes, pose), _into_body((-rel[0], -rel[1], -rel[2]), pose)
        swing = math.sin(mob.stride) if mob.walk > 0 else 0.0
        redness = 0.5 if mob.hurt > 0 or mob.dying > 0 else 0.0
        for p in range(_COUNTS[mob.kind]):
            shift = _SWING[mob.kind, p] * swing
            pictures = _PICTURES[mob.kind, p]
            _draw_box(image, depth, body_axes, body_eye, _BOXES[mob.kind, p], shift, pictures, atlas, redness)


@kernel
def draw_drops(image: Image, depth: Depth, drop: Records, player: Record, atlas: Atlas) -> None:
    """Draw dropped items as little cubes that spin."""
    eye, axes = eye_of(player), view_axes(player)
    pictures = np.zeros(2, np.int64)
    for n in range(drop.shape[0]):
        stack = drop[n]
        if stack.item != NO_ITEM:
            pose = _pose(0.1 * stack.age, 0.0)
            body_eye = _into_body((eye[0] - stack.x, eye[1] - stack.y, eye[2] - stack.z), pose)
            pictures[:] = ITEM_TEXTURE + stack.item
            _draw_box(image, depth, _axes_in_body(axes, pose), body_eye, _ITEM_BOX, 0.0, pictures, atlas, 0.0)


@kernel
def draw_arrows(image: Image, depth: Depth, arrow: Records, player: Record, atlas: Atlas) -> None:
    """Draw arrows as thin sticks that point along their flight."""
    eye, axes = eye_of(player), view_axes(player)
    for n in range(arrow.shape[0]):
        shot = arrow[n]
        if shot.state != 0:
            pose = _pose(shot.bearing, shot.climb)
            body_eye = _into_body((eye[0] - shot.x, eye[1] - shot.y, eye[2] - shot.z), pose)
            _draw_box(image, depth, _axes_in_body(axes, pose), body_eye, _ARROW_BOX, 0.0, _ARROW_PICTURES, atlas, 0.0)
