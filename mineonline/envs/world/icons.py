"""Pictures of items, 16x16 RGBA, for the hotbar and the hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BLOCKS, ITEMS, MATERIALS, TOOL_KINDS
from mineonline.envs.world.textures import side_of

Icon = NDArray[np.uint8]
Colour = tuple[int, int, int]

_METAL: dict[str, Colour] = {
    "wooden": (150, 116, 70),
    "stone": (140, 140, 140),
    "iron": (222, 222, 222),
    "golden": (250, 214, 74),
    "diamond": (92, 224, 212),
}
_STICK: Colour = (110, 80, 44)
_BOW_WOOD: Colour = (134, 98, 54)
_STRING: Colour = (226, 226, 226)
_FLINT: Colour = (74, 74, 76)
_SIMPLE: dict[str, Colour] = {
    "apple": (200, 40, 36), "bread": (190, 140, 62), "beef": (190, 60, 56), "porkchop": (236, 150, 146),
    "mutton": (204, 84, 72), "stick": _STICK, "coal": (50, 50, 52), "diamond": (92, 224, 232),
    "iron_ingot": (214, 214, 214), "gold_ingot": (250, 214, 74), "leather": (178, 96, 52),
    "feather": (236, 236, 236), "string": _STRING, "flint": _FLINT, "snowball": (240, 248, 250),
    "flint_and_steel": (150, 150, 152),
}  # fmt: skip

# each tool on the diagonal from the lower left: H head, S stick
_SHAPES = {
    "sword": (
        "............HHH.", "...........HHHH.", "..........HHHH..", ".........HHHH...", "........HHHH....",
        ".......HHHH.....", "......HHHH......", ".HH..HHHH.......", ".HHHHHHH........", "..HHHHH.........",
        "..HHHH..........", ".SSHHHH.........", "SSS.HH..........", "SSS.............", "SS..............",
        "................",
    ),
    "pickaxe": (
        "................", ".....HHHHHH.....", "....HHHHHHHHHS..", "...........SSSH.", "..........SSSHH.",
        ".........SSS.HH.", "........SSS..HH.", ".......SSS...HH.", "......SSS....HH.", ".....SSS.....HH.",
        "....SSS......H..", "...SSS..........", "..SSS...........", ".SSS............", ".SS.............",
        "................",
    ),
    "axe": (
        "................", ".......HHH......", "......HHHHH.S...", ".....HHHHHHSS...", "....HHHHHHSSS...",
        "....HHHHHSSSHH..", ".....HHHSSSHHH..", "......HSSS.HH...", "......SSS.......", ".....SSS........",
        "....SSS.........", "...SSS..........", "..SSS...........", ".SSS............", ".SS.............",
        "................",
    ),
    "shovel": (
        "................", "..........HHHH..", ".........HHHHHH.", ".........HHHHHH.", ".........HHHHHH.",
        ".........SHHHH..", "........SSS.....", ".......SSS......", "......SSS.......", ".....SSS........",
        "....SSS.........", "...SSS..........", "..SSS...........", ".SSS............", ".SS.............",
        "................",
    ),
}  # fmt: skip


def _tool(kind: str, material: str) -> Icon:
    icon = np.zeros((16, 16, 4), np.uint8)
    shape = np.array([list(row) for row in _SHAPES[kind]])
    y, x = np.mgrid[:16, :16]
    light = np.where((x - y) % 3 == 0, 1.0, 0.84)[..., None]
    for letter, colour in (("H", _METAL[material]), ("S", _STICK)):
        where = shape == letter
        icon[where, :3] = (np.array(colour) * light)[where]
        icon[where, 3] = 255
    return icon


def _cube(block: str) -> Icon:
    """A block, lit from above."""
    icon = np.zeros((16, 16, 4), np.uint8)
    icon[1:15, 1:15, :3] = side_of(block)[1:15, 1:15] * np.linspace(1.0, 0.7, 14)[:, None, None]
    icon[1:15, 1:15, 3] = 255
    return icon


def _lump(colour: Colour) -> Icon:
    icon = np.zeros((16, 16, 4), np.uint8)
    y, x = np.mgrid[:16, :16]
    distance = np.hypot((x - 7.5) / 6.0, (y - 8.0) / 4.6)
    icon[..., :3] = np.clip(np.array(colour) * (1.15 - 0.4 * distance)[..., None], 0, 255)
    icon[..., 3] = np.where(distance < 1.0, 255, 0)
    return icon


def _bow() -> Icon:
    """An arc of wood with a string between its ends."""
    icon = np.zeros((16, 16, 4), np.uint8)
    y, x = np.mgrid[:16, :16]
    radius = np.hypot(x - 13, y - 13)
    wood, string = (abs(radius - 11) < 1.0) & (x < 14) & (y < 14), (abs(x + y - 15) < 0.6) & (radius < 11)
    for where, colour in ((string, _STRING), (wood, _BOW_WOOD)):
        icon[where, :3], icon[where, 3] = colour, 255
    return icon


def _arrow() -> Icon:
    """A shaft with a head at the upper right and feathers at the lower left."""
    icon = np.zeros((16, 16, 4), np.uint8)
    y, x = np.mgrid[:16, :16]
    along, across = x - y, abs(x + y - 15)
    shaft = (across < 1) & (abs(along) < 12)
    head, feathers = (along > 7) & (along + 2 * across < 14) & (across < 4), (along < -7) & (along > -14) & (across < 3)
    for where, colour in ((feathers, _STRING), (shaft, _STICK), (head, _FLINT)):
        icon[where, :3], icon[where, 3] = colour, 255
    return icon


def _icon(item: str) -> Icon:
    material, _, kind = item.partition("_")
    if kind in TOOL_KINDS and material in MATERIALS:
        return _tool(kind, material)
    if item in BLOCKS:
        return _cube(item)
    if item in ("bow", "arrow"):
        return _bow() if item == "bow" else _arrow()
    if item == "none":
        return np.zeros((16, 16, 4), np.uint8)
    return _lump(_SIMPLE[item] if item in _SIMPLE else _METAL[material])


ICONS = np.stack([_icon(item) for item in ITEMS])
"""[items, 16, 16, 4], alpha 0 or 255; `none` is fully transparent"""
