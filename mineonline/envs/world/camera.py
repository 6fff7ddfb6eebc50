"""The player's eye: where it is, where it looks, and where things appear in the picture.

The picture shows the frustum of a 16:9 screen with a vertical field of view of 70 degrees, whatever its own shape.
"""

from __future__ import annotations

import math

from mineonline.envs.world.jit import inlined, kernel
from mineonline.envs.world.physics import eye_height
from mineonline.envs.world.state import Record

TAN_Y = math.tan(math.radians(70.0 / 2))
TAN_X = TAN_Y * 16.0 / 9.0
_NEAR = 0.02

Vector = tuple[float, float, float]
Axes = tuple[float, float, float, float, float, float, float, float, float]
"""The view's forward, right and up vectors, one after another."""
Bounds = tuple[float, float, float, float, float, float]
"""A box relative to the eye: x, y, z, each from and to."""
Shape = tuple[int, int]
"""Number of rows and of columns of a picture."""
Rect = tuple[int, int, int, int]
"""Rows and columns of the picture, each from and to (not included)."""


@kernel
def eye_of(player: Record) -> Vector:
    """Where the player's eyes are."""
    return player.x, player.y + eye_height(player), player.z


@kernel
def view_axes(player: Record) -> Axes:
    """Forward is a unit vector; right and up are scaled to reach the edge of the picture at distance 1."""
    yaw, pitch = math.radians(player.yaw), math.radians(player.pitch)
    sy, cy, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    return (
        -sy * cp, -sp, cy * cp,
        -cy * TAN_X, 0.0, -sy * TAN_X,
        -sy * sp * TAN_Y, cp * TAN_Y, cy * sp * TAN_Y,
    )  # fmt: skip


@inlined
def _corner_in_view(axes: Axes, box: Bounds, corner: int) -> Vector:
    """How far ahead, right and up a corner is. At the edge of the picture, right or up is as large as ahead."""
    x, y, z = box[corner & 1], box[2 + (corner >> 1 & 1)], box[4 + (corner >> 2)]
    return (
        x * axes[0] + y * axes[1] + z * axes[2],
        # the vectors right and up have the lengths TAN_X and TAN_Y
        (x * axes[3] + y * axes[4] + z * axes[5]) / (TAN_X * TAN_X),
        (x * axes[6] + y * axes[7] + z * axes[8]) / (TAN_Y * TAN_Y),
    )


@kernel
def screen_rect(axes: Axes, box: Bounds, shape: Shape) -> Rect:
    """The pixels that a box can cover; none if it is behind the eye. `axes` are in the box's coordinates."""
    height, width = shape
    left, right, low, high = 1e9, -1e9, 1e9, -1e9
    for corner in range(8):
        ahead, across, upward = _corner_in_view(axes, box, corner)
        if ahead >= _NEAR:
            left, right = min(left, across / ahead), max(right, across / ahead)
            low, high = min(low, upward / ahead), max(high, upward / ahead)
            continue
        # an edge to a corner ahead is visible from where it crosses the near plane
        for edge in (1, 2, 4):
            end_ahead, end_across, end_upward = _corner_in_view(axes, box, corner ^ edge)
            if end_ahead >= _NEAR:
                share = (_NEAR - ahead) / (end_ahead - ahead)
                seen_across = (across + share * (end_across - across)) / _NEAR
                seen_upward = (upward + share * (end_upward - upward)) / _NEAR
                left, right = min(left, seen_across), max(right, seen_across)
                low, high = min(low, seen_upward), max(high, seen_upward)
    rows = int((1.0 - min(2.0, high)) * height / 2), int((1.0 - max(-2.0, low)) * height / 2) + 1
    columns = int((1.0 + max(-2.0, left)) * width / 2), int((1.0 + min(2.0, right)) * width / 2) + 1
    return max(0, rows[0]), min(height, rows[1]), max(0, columns[0]), min(width, columns[1])
