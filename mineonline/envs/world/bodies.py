"""What the player sees of animals and of what lies on the ground: boxes, drawn over the land where they are nearer.

Axes: P boxes of a model.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import MOBS
from mineonline.envs.world.art import ITEM_TEXTURE, TEXTURE_ID
from mineonline.envs.world.blocks import NO_ITEM
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.state import Record, Records
from mineonline.envs.world.view import TAN_Y, VIEW, Axes, Depth, Image, eye_of, in_fog, ray, texel, view_axes

_DYING_TICKS = 20.0
_RED = (214.0, 30.0, 30.0)
_LIGHT = (0.7, 1.0, 0.86)
_BOTTOM_LIGHT = 0.5
_STRIDE_BLOCKS = 0.22

# A box: x, y, z from and to in sixteenths of a block (z is ahead, y up), how a leg swings, and its pictures: sides,
# front
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

_MOB_REACH, _MOB_HEIGHT = 1.1, 1.7
_ITEM_BOX = np.array([[-0.14, 0.14, 0.06, 0.34, -0.14, 0.14]])
_ITEM_REACH, _ITEM_HEIGHT = 0.25, 0.5

Vector = tuple[float, float, float]
Rect = tuple[int, int, int, int]


@kernel
def _screen_rect(
    axes: Axes, rel: Vector, reach: float, tall: float, width: int, height: int
) -> Rect:
    """Rows and columns (from, to) of the picture that a box around a body can cover; empty if it is behind the eye.

    `rel` is the middle of its soles from the eye; it reaches `reach` sideways and `tall` up.
    """
    left, right, low, high = 1e9, -1e9, 1e9, -1e9
    in_front, behind = False, False
    norm_x = axes[3] ** 2 + axes[4] ** 2 + axes[5] ** 2
    norm_y = axes[6] ** 2 + axes[7] ** 2 + axes[8] ** 2
    for corner in range(8):
        x = rel[0] + (reach if corner & 1 else -reach)
        y = rel[1] + (tall if corner & 2 else -0.1)
        z = rel[2] + (reach if corner & 4 else -reach)
        ahead = x * axes[0] + y * axes[1] + z * axes[2]
        if ahead < 0.05:
            behind = True
            continue
        in_front = True
        # axes 3-8 are as long as the picture's half width and height at distance 1
        across = (x * axes[3] + y * axes[4] + z * axes[5]) / norm_x / ahead
        upward = (x * axes[6] + y * axes[7] + z * axes[8]) / norm_y / ahead
        left, right = min(left, across), max(right, across)
        low, high = min(low, upward), max(high, upward)
    if not in_front:
        return 0, 0, 0, 0
    if behind:
        return 0, height, 0, width
    first_row, end_row = int((1.0 - high) * height / 2), int((1.0 - low) * height / 2) + 1
    first_column, end_column = int((1.0 + left) * width / 2), int((1.0 + right) * width / 2) + 1
    return (
        min(height, max(0, first_row)), min(height, max(0, end_row)),
        min(width, max(0, first_column)), min(width, max(0, end_column)),
    )  # fmt: skip


@kernel
def _into_body(v: Vector, sin: float, cos: float, roll_sin: float, roll_cos: float) -> Vector:
    """A vector of the world seen from a body that looks along z and lies on its side by some angle."""
    x, y, z = v[0] * cos + v[2] * sin, v[1], v[2] * cos - v[0] * sin
    return x * roll_cos + y * roll_sin, y * roll_cos - x * roll_sin, z


@kernel
def _hit_box(box: NDArray[np.float64], shift_z: float, eye: Vector, d: Vector) -> tuple[float, int]:
    """Distance along a ray to a box and the axis of the face that it meets; infinite if it misses."""
    enter, leave, axis = 0.0, 1e9, -1
    for a in range(3):
        low, high = box[2 * a], box[2 * a + 1]
        if a == 2:
            low, high = low + shift_z, high + shift_z
        along = d[a] if abs(d[a]) > 1e-9 else 1e-9
        t0, t1 = (low - eye[a]) / along, (high - eye[a]) / along
        if t0 > t1:
            t0, t1 = t1, t0
        if t0 > enter:
            enter, axis = t0, a
        leave = min(leave, t1)
        if enter > leave:
            return np.inf, -1
    return (np.inf, -1) if axis < 0 else (enter, axis)


@kernel
def _box_colour(
    box: NDArray[np.float64], shift_z: float, pictures: NDArray[np.int64], atlas: NDArray[np.uint8],
    point: Vector, d: Vector, axis: int, texels: float,
) -> Vector:  # fmt: skip
    """Colour of a box's face at a point; each picture is stretched over its face."""
    x = (point[0] - box[0]) / (box[1] - box[0])
    y = (point[1] - box[2]) / (box[3] - box[2])
    z = (point[2] - shift_z - box[4]) / (box[5] - box[4])
    u, v = (z, 1.0 - y) if axis == 0 else (x, 1.0 - z) if axis == 1 else (x, 1.0 - y)
    front = axis == 2 and d[2] < 0
    light = _BOTTOM_LIGHT if axis == 1 and d[1] > 0 else _LIGHT[axis]
    u, v = min(0.999, max(0.0, u)), min(0.999, max(0.0, v))
    red, green, blue = texel(atlas[pictures[1 if front else 0]], u, v, texels)
    return red * light, green * light, blue * light


@kernel
def _draw_model(
    image: Image, depth: Depth, axes: Axes, rel: Vector, yaw: float, roll: float, rect: Rect,
    boxes: NDArray[np.float64], shifts: NDArray[np.float64], pictures: NDArray[np.int64], atlas: NDArray[np.uint8],
    redness: float,
) -> None:  # fmt: skip
    """Draw the boxes of a body whose soles are at `rel` from the eye over the pixels of a rectangle."""
    height, width = depth.shape
    sin, cos, roll_sin, roll_cos = math.sin(yaw), math.cos(yaw), math.sin(roll), math.cos(roll)
    eye = _into_body((-rel[0], -rel[1], -rel[2]), sin, cos, roll_sin, roll_cos)
    texels_at_one = 20.0 * 2.0 * TAN_Y / height
    for row in range(rect[0], rect[1]):
        up = 1.0 - (row + 0.5) * 2.0 / height
        for column in range(rect[2], rect[3]):
            d = _into_body(ray(axes, (column + 0.5) * 2.0 / width - 1.0, up), sin, cos, roll_sin, roll_cos)
            nearest, part, axis = float(depth[row, column]), -1, 0
            for p in range(boxes.shape[0]):
                distance, face = _hit_box(boxes[p], shifts[p], eye, d)
                if distance < nearest:
                    nearest, part, axis = distance, p, face
            if part < 0:
                continue
            point = (eye[0] + d[0] * nearest, eye[1] + d[1] * nearest, eye[2] + d[2] * nearest)
            colour = _box_colour(
                boxes[part], shifts[part], pictures[part], atlas, point, d, axis, nearest * texels_at_one
            )
            red, green, blue = in_fog(colour, nearest)
            depth[row, column] = nearest
            image[row, column, 0] = red * (1.0 - redness) + _RED[0] * redness
            image[row, column, 1] = green * (1.0 - redness) + _RED[1] * redness
            image[row, column, 2] = blue * (1.0 - redness) + _RED[2] * redness


@kernel
def draw_mobs(image: Image, depth: Depth, mobs: Records, player: Record, atlas: NDArray[np.uint8]) -> None:
    """Draw the animals; one that is hit is red, one that dies falls on its side."""
    eye, axes = eye_of(player), view_axes(player)
    for m in range(mobs.shape[0]):
        mob = mobs[m]
        rel = (mob.x - eye[0], mob.y - eye[1], mob.z - eye[2])
        if mob.kind < 0 or rel[0] ** 2 + rel[1] ** 2 + rel[2] ** 2 > VIEW * VIEW:
            continue
        rect = _screen_rect(axes, rel, _MOB_REACH, _MOB_HEIGHT, depth.shape[1], depth.shape[0])
        if rect[0] >= rect[1] or rect[2] >= rect[3]:
            continue
        boxes = _COUNTS[mob.kind]
        roll = 0.0 if mob.dying == 0 else math.pi / 2 * min(1.0, 2.0 * (1.0 - mob.dying / _DYING_TICKS))
        swing = math.sin(mob.stride) if mob.walk > 0 else 0.0
        _draw_model(
            image, depth, axes, rel, math.radians(mob.yaw), roll, rect,
            _BOXES[mob.kind, :boxes], _SWING[mob.kind, :boxes] * swing, _PICTURES[mob.kind, :boxes], atlas,
            0.5 if mob.hurt > 0 or mob.dying > 0 else 0.0,
        )  # fmt: skip


@kernel
def draw_drops(image: Image, depth: Depth, drop: Records, player: Record, atlas: NDArray[np.uint8]) -> None:
    """Draw what lies on the ground as little cubes that turn."""
    eye, axes = eye_of(player), view_axes(player)
    no_shift = np.zeros(1)
    pictures = np.zeros((1, 2), np.int64)
    for n in range(drop.shape[0]):
        stack = drop[n]
        if stack.item == NO_ITEM:
            continue
        rel = (stack.x - eye[0], stack.y - eye[1], stack.z - eye[2])
        rect = _screen_rect(axes, rel, _ITEM_REACH, _ITEM_HEIGHT, depth.shape[1], depth.shape[0])
        if rect[0] >= rect[1] or rect[2] >= rect[3]:
            continue
        pictures[:] = ITEM_TEXTURE + stack.item
        _draw_model(image, depth, axes, rel, 0.1 * stack.age, 0.0, rect, _ITEM_BOX, no_shift, pictures, atlas, 0.0)
