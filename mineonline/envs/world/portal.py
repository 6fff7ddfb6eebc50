"""How much of a nether portal's frame is built near the player: MineStudio's GateRewardsCallback as a kernel."""

from __future__ import annotations

import math

from mineonline.envs.world.blocks import BLOCK_ID
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.physics import Blocks
from mineonline.envs.world.state import HEIGHT, SIZE, STRIDE_X, STRIDE_Z, Record

REACH = 7
"""How far from the player's block others count, in blocks along each axis (MineStudio's VoxelsCallback)."""
_OBSIDIAN = BLOCK_ID["obsidian"]
_WIDTH, _HEIGHT = 4, 5
_ENOUGH = 12
"""The callback pays extra for each block of a frame beyond these, though a portal works without its corners."""
_PENALTY = 0.1

Window = tuple[int, int, int, int, int, int]
"""x, y, z, each from and to (included), of the cells that count."""


@kernel
def _window(player: Record) -> Window:
    x, y, z = math.floor(player.x), math.floor(player.y), math.floor(player.z)
    return (
        max(0, x - REACH), min(SIZE - 1, x + REACH), max(0, y - REACH), min(HEIGHT - 1, y + REACH),
        max(0, z - REACH), min(SIZE - 1, z + REACH),
    )  # fmt: skip


@kernel
def _is_obsidian(block: Blocks, window: Window, x: int, y: int, z: int) -> bool:
    x0, x1, y0, y1, z0, z1 = window
    inside = x0 <= x <= x1 and y0 <= y <= y1 and z0 <= z <= z1
    return bool(inside and block[x * STRIDE_X + z * STRIDE_Z + y] == _OBSIDIAN)


@kernel
def _frame_score(block: Blocks, window: Window, x: int, y: int, z: int, along_x: int) -> int:
    """Score of the frame with this lowest corner, along x or else z: its blocks and the extra, less those inside."""
    frame, inside = 0, 0
    for across in range(_WIDTH):
        for up in range(_HEIGHT):
            if _is_obsidian(block, window, x + across * along_x, y + up, z + across * (1 - along_x)):
                if across in (0, _WIDTH - 1) or up in (0, _HEIGHT - 1):
                    frame += 1
                else:
                    inside += 1
    return frame + max(0, frame - _ENOUGH) - inside


@kernel
def portal_score(block: Blocks, player: Record) -> float:
    """The best score of a frame whose lowest corner is built, less 0.1 per block of obsidian; 0 if that is negative."""
    window = _window(player)
    x0, x1, y0, y1, z0, z1 = window
    count, best = 0, 0
    for x in range(x0, x1 + 1):
        for z in range(z0, z1 + 1):
            for y in range(y0, y1 + 1):
                if block[x * STRIDE_X + z * STRIDE_Z + y] == _OBSIDIAN:
                    count += 1
                    along_x = _frame_score(block, window, x, y, z, 1)
                    best = max(best, along_x, _frame_score(block, window, x, y, z, 0))
    return max(0.0, best - _PENALTY * count)
