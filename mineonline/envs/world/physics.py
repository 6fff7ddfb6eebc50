"""How bodies move: Minecraft 1.16's physics, axis by axis against full blocks. Distances in blocks, times in ticks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.world.blocks import SOLID, WATER
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.state import HEIGHT, SIZE, STRIDE_X, STRIDE_Z, Record

Blocks = NDArray[np.uint8]

PLAYER_HALF_WIDTH = 0.3
PLAYER_HEIGHT = 1.8
EYE_HEIGHT = 1.62
SNEAKING_EYE_HEIGHT = 1.27

# Minecraft stores these as float32 and uses them in float64
_DRAG_Y = float(np.float32(0.98))
_JUMP = float(np.float32(0.42))
_GRAVITY = 0.08
_DRAG_AIR = 0.91
_DRAG_GROUND = 0.6 * 0.91
_DRAG_WATER = 0.8
_GROUND_SCALE = 0.1627714 / _DRAG_GROUND**3
_WALK = 0.1
_AIR_WALK = 0.02
_WATER_WALK = 0.02
_SPRINT = 1.3
_SNEAK = 0.3
_NEGLIGIBLE = 0.003
RESTING_VY = -_GRAVITY * _DRAG_Y
"""The vy that gravity gives a standing body in a tick; with less, the body counts as in the air for a tick."""
_TOUCH = 1e-7


@kernel
def is_solid(block: Blocks, x: int, y: int, z: int) -> bool:
    """Whether bodies cannot enter a cell. The world's edges and bottom are walls, its top is open."""
    if x < 0 or x >= SIZE or z < 0 or z >= SIZE or y < 0:
        return True
    if y >= HEIGHT:
        return False
    return bool(SOLID[block[x * STRIDE_X + z * STRIDE_Z + y]])


@kernel
def is_water(block: Blocks, x: float, y: float, z: float) -> bool:
    """Whether a point is under water."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    if i < 0 or i >= SIZE or k < 0 or k >= SIZE or j < 0 or j >= HEIGHT:
        return False
    return bool(block[i * STRIDE_X + k * STRIDE_Z + j] == WATER)


@kernel
def _solid_along(block: Blocks, axis: int, along: int, second: int, third: int) -> bool:
    """`is_solid` of a cell given by its index along an axis and along the two axes that follow it (x, y, z, x...)."""
    if axis == 0:
        return is_solid(block, along, second, third)
    if axis == 1:
        return is_solid(block, third, along, second)
    return is_solid(block, second, third, along)


@kernel
def slide(
    block: Blocks, low: tuple[float, float, float], high: tuple[float, float, float], axis: int, move: float
) -> float:
    """How far a box gets along an axis (0 x, 1 y, 2 z) before it touches a block, at most `move`."""
    a, b = (axis + 1) % 3, (axis + 2) % 3
    for i in range(math.floor(low[a] + _TOUCH), math.floor(high[a] - _TOUCH) + 1):
        for j in range(math.floor(low[b] + _TOUCH), math.floor(high[b] - _TOUCH) + 1):
            if move > 0:
                for cell in range(math.ceil(high[axis] - _TOUCH), math.ceil(high[axis] + move)):
                    if _solid_along(block, axis, cell, i, j):
                        move = max(0.0, min(move, cell - high[axis]))
                        break
            elif move < 0:
                for cell in range(math.floor(low[axis] + _TOUCH) - 1, math.floor(low[axis] + move) - 1, -1):
                    if _solid_along(block, axis, cell, i, j):
                        move = min(0.0, max(move, cell + 1 - low[axis]))
                        break
    return move


@kernel
def _shifted(corner: tuple[float, float, float], dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    return corner[0] + dx, corner[1] + dy, corner[2] + dz


@kernel
def move_body(block: Blocks, body: Record, half_width: float, height: float) -> None:
    """Move a body by its velocity, stop it at blocks, and record whether it stands and whether it bumped into one."""
    low = (body.x - half_width, body.y, body.z - half_width)
    high = (body.x + half_width, body.y + height, body.z + half_width)
    dy = slide(block, low, high, 1, body.vy)
    low, high = _shifted(low, 0.0, dy, 0.0), _shifted(high, 0.0, dy, 0.0)
    if abs(body.vx) < abs(body.vz):
        dz = slide(block, low, high, 2, body.vz)
        dx = slide(block, _shifted(low, 0.0, 0.0, dz), _shifted(high, 0.0, 0.0, dz), 0, body.vx)
    else:
        dx = slide(block, low, high, 0, body.vx)
        dz = slide(block, _shifted(low, dx, 0.0, 0.0), _shifted(high, dx, 0.0, 0.0), 2, body.vz)
    body.on_ground = 1 if body.vy < 0 and dy != body.vy else 0
    body.bumped = 1 if dx != body.vx or dz != body.vz else 0
    if dx != body.vx:
        body.vx = 0.0
    if dz != body.vz:
        body.vz = 0.0
    if dy != body.vy:
        body.vy = 0.0
    body.x += dx
    body.y += dy
    body.z += dz


@kernel
def push(body: Record, forward: float, left: float, acceleration: float) -> None:
    """Accelerate a body relative to where it looks; `forward` and `left` are -1 to 1."""
    length = math.sqrt(forward * forward + left * left)
    if length < 0.01:
        return
    scale = acceleration / max(1.0, length)
    yaw = math.radians(body.yaw)
    sin, cos = math.sin(yaw), math.cos(yaw)
    body.vx += scale * (left * cos - forward * sin)
    body.vz += scale * (forward * cos + left * sin)


@kernel
def drop_negligible(body: Record) -> None:
    """Set each speed below 0.003 blocks per tick to 0, as Minecraft does before each tick."""
    if abs(body.vx) < _NEGLIGIBLE:
        body.vx = 0.0
    if abs(body.vy) < _NEGLIGIBLE:
        body.vy = 0.0
    if abs(body.vz) < _NEGLIGIBLE:
        body.vz = 0.0


@kernel
def fall_and_slow(body: Record, stood: bool) -> None:
    """Apply gravity and drag after a move, for where the body was during it."""
    if body.in_water:
        body.vx, body.vy, body.vz = body.vx * _DRAG_WATER, body.vy * _DRAG_WATER - _GRAVITY / 16, body.vz * _DRAG_WATER
        return
    drag = _DRAG_GROUND if stood else _DRAG_AIR
    body.vx, body.vy, body.vz = body.vx * drag, (body.vy - _GRAVITY) * _DRAG_Y, body.vz * drag


@kernel
def _keep_off_edges(block: Blocks, player: Record) -> None:
    """Shorten a sneaking player's step until it ends above ground."""
    vx, vz = player.vx, player.vz
    while vx != 0.0 and _hangs(block, player.x + vx, player.y, player.z):
        vx = 0.0 if abs(vx) < 0.05 else vx - math.copysign(0.05, vx)
    while vz != 0.0 and _hangs(block, player.x, player.y, player.z + vz):
        vz = 0.0 if abs(vz) < 0.05 else vz - math.copysign(0.05, vz)
    while vx != 0.0 and vz != 0.0 and _hangs(block, player.x + vx, player.y, player.z + vz):
        vx = 0.0 if abs(vx) < 0.05 else vx - math.copysign(0.05, vx)
        vz = 0.0 if abs(vz) < 0.05 else vz - math.copysign(0.05, vz)
    player.vx, player.vz = vx, vz


@kernel
def _hangs(block: Blocks, x: float, y: float, z: float) -> bool:
    low = (x - PLAYER_HALF_WIDTH, y, z - PLAYER_HALF_WIDTH)
    high = (x + PLAYER_HALF_WIDTH, y + PLAYER_HEIGHT, z + PLAYER_HALF_WIDTH)
    return slide(block, low, high, 1, -0.6) == -0.6


@kernel
def _jump(player: Record, pressed: bool) -> None:
    if not pressed:
        player.jump_delay = 0
        return
    player.jump_delay = max(0, player.jump_delay - 1)
    if player.in_water:
        player.vy += 0.04
    elif player.on_ground and player.jump_delay == 0:
        player.vy = _JUMP
        player.jump_delay = 10
        if player.sprinting:
            yaw = math.radians(player.yaw)
            player.vx -= math.sin(yaw) * 0.2
            player.vz += math.cos(yaw) * 0.2


@kernel
def move_player(block: Blocks, player: Record, forward: float, left: float, jump: bool) -> None:
    """One tick of walking, jumping, swimming and falling. `player.sneaking` and `sprinting` must be set before."""
    drop_negligible(player)
    player.in_water = is_water(block, player.x, player.y + 0.4, player.z)
    _jump(player, jump)
    pace = 0.98 * (_SNEAK if player.sneaking else 1.0)
    if player.in_water:
        acceleration = _WATER_WALK
    else:
        acceleration = _WALK * _GROUND_SCALE if player.on_ground else _AIR_WALK
        if player.sprinting:
            acceleration *= _SPRINT
    push(player, forward * pace, left * pace, acceleration)
    stood = player.on_ground
    if player.sneaking and stood:
        _keep_off_edges(block, player)
    before = player.y
    move_body(block, player, PLAYER_HALF_WIDTH, PLAYER_HEIGHT)
    player.fall = 0.0 if player.in_water else player.fall + max(0.0, before - player.y)
    fall_and_slow(player, stood)
    if (
        player.in_water
        and player.bumped
        and not is_solid(block, math.floor(player.x), math.floor(player.y + 1.6), math.floor(player.z))
    ):
        # climbs out onto the shore
        player.vy = 0.3


@kernel
def eye_height(player: Record) -> float:
    """Height of the eyes above the feet."""
    return SNEAKING_EYE_HEIGHT if player.sneaking else EYE_HEIGHT


@kernel
def view_direction(player: Record) -> tuple[float, float, float]:
    """Unit vector along which the player looks."""
    yaw, pitch = math.radians(player.yaw), math.radians(player.pitch)
    return -math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)
