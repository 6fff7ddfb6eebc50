"""Pictures of 16x16 texels for the faces of blocks and animals, drawn by formulas: none of Minecraft's art is used.

Axes of a picture: 16 rows from the top, 16 columns, 3 colours.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES, BLOCKS

Picture = NDArray[np.float64]
"""[16, 16, 3] in 0..255"""
Colour = tuple[int, int, int]

_GRASS_TINT: dict[str, Colour] = {
    "plains": (110, 158, 66),
    "forest": (88, 150, 60),
    "birch_forest": (104, 152, 74),
    "taiga": (96, 142, 92),
    "snowy_taiga": (96, 138, 108),
    "savanna": (160, 152, 72),
    "desert": (160, 152, 72),
    "mountains": (104, 146, 98),
}
_LEAF_TINT: dict[str, Colour] = {
    "oak": (62, 118, 38),
    "birch": (100, 136, 66),
    "spruce": (56, 92, 58),
    "acacia": (98, 128, 46),
}
_BARK: dict[str, tuple[Colour, Colour]] = {
    "oak": ((106, 84, 50), (176, 142, 86)),
    "birch": ((216, 214, 208), (196, 178, 124)),
    "spruce": ((62, 42, 22), (116, 86, 50)),
    "acacia": ((104, 96, 88), (172, 94, 52)),
}


def _dice(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _speckled(name: str, colour: Colour, spread: float) -> Picture:
    """A colour whose brightness varies from texel to texel, in a few steps."""
    steps = _dice(name).choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0], (16, 16, 1))
    return np.clip(np.array(colour) * (1.0 + spread * steps), 0, 255)


def _blotched(name: str, ground: Picture, colour: Colour, blotches: int, size: int) -> Picture:
    """Patches of a colour grown by small random walks."""
    dice, picture = _dice(name + "!"), ground.copy()
    for _ in range(blotches):
        y, x = dice.integers(1, 15, 2)
        for _ in range(size):
            picture[y % 16, x % 16] = np.array(colour) * dice.uniform(0.9, 1.1)
            y, x = y + dice.integers(-1, 2), x + dice.integers(-1, 2)
    return np.clip(picture, 0, 255)


def _bark(wood: str) -> Picture:
    colour, _ = _BARK[wood]
    dice = _dice(f"{wood} bark")
    if wood == "birch":
        picture = _speckled("birch bark", colour, 0.04)
        for _ in range(9):
            y, x, length = dice.integers(16), dice.integers(12), dice.integers(2, 6)
            picture[y, x : x + length] = (60, 58, 54)
        return picture
    stripes = dice.choice([0.72, 0.9, 1.0, 1.12], (1, 16, 1)) * dice.choice([0.92, 1.0, 1.0, 1.08], (16, 16, 1))
    striped: Picture = np.array(colour) * stripes
    return np.clip(striped, 0, 255)


def _rings(wood: str) -> Picture:
    bark, inside = _BARK[wood]
    y, x = np.mgrid[:16, :16]
    ring = np.maximum(abs(x - 7.5), abs(y - 7.5)).astype(int)
    shade = np.where(ring % 2 == 0, 1.0, 0.84)[..., None]
    return np.where((ring == 7)[..., None], np.array(bark, float), np.array(inside) * shade)


def _leaves(wood: str) -> Picture:
    dice = _dice(f"{wood} leaves")
    shade = dice.choice([0.45, 0.75, 1.0, 1.15, 1.3], (16, 16, 1), p=[0.18, 0.22, 0.3, 0.2, 0.1])
    shaded: Picture = np.array(_LEAF_TINT[wood]) * shade
    return np.clip(shaded, 0, 255)


def _planks(wood: str) -> Picture:
    picture = _speckled(f"{wood} planks", _BARK[wood][1], 0.06)
    picture[3::4] *= 0.66
    for board, joint in enumerate((5, 12, 3, 10)):
        picture[4 * board : 4 * board + 3, joint] *= 0.72
    return picture


def _cobble(name: str, colour: Colour) -> Picture:
    """Round stones: each texel belongs to the nearest of a dozen points, and the seams are dark."""
    dice = _dice(name)
    points = dice.uniform(0, 16, (12, 2))
    y, x = np.mgrid[:16, :16] + 0.5
    down, across = abs(y[..., None] - points[:, 0]), abs(x[..., None] - points[:, 1])
    distance = np.sort(np.hypot(np.minimum(down, 16 - down), np.minimum(across, 16 - across)), axis=-1)
    seam = np.clip((distance[..., 1] - distance[..., 0]) / 1.6, 0, 1)[..., None]
    picture: Picture = np.array(colour) * (0.55 + 0.5 * seam) * dice.uniform(0.93, 1.07, (16, 16, 1))
    return picture


def _fringed(name: str, ground: Picture, fringe: Picture) -> Picture:
    """A block's side, with what grows on top hanging over its upper edge."""
    depth = _dice(name).integers(2, 5, 16)
    return np.where((np.arange(16)[:, None] < depth)[..., None], fringe, ground)


def _framed(picture: Picture, darker: float) -> Picture:
    framed = picture.copy()
    framed[[0, -1]] *= darker
    framed[:, [0, -1]] *= darker
    return framed


def _cactus() -> Picture:
    picture = _speckled("cactus", (86, 128, 52), 0.08)
    picture[:, 1::5] *= 0.62
    picture[2::5, 3::5] = (210, 214, 170)
    return picture


def _furnace_front() -> Picture:
    picture = _cobble("furnace", (124, 124, 124))
    picture[8:14, 4:12] = (38, 34, 32)
    picture[12:14, 5:11] = (190, 96, 30)
    return picture


def _table_side() -> Picture:
    picture = _planks("oak")
    picture[:3] = np.array((110, 82, 46))
    picture[5:12, 3:5] = (96, 96, 98)
    picture[5:8, 10:14] = (120, 118, 116)
    picture[8:13, 11:13] = (92, 66, 36)
    return picture


def _face(name: str, skin: Picture, eyes: Colour, muzzle: Colour, nostrils: Colour) -> Picture:
    """A head seen from the front: two eyes above a muzzle with two nostrils."""
    picture = skin.copy()
    picture[5:8, 1:5] = picture[5:8, 11:15] = (236, 236, 236)
    picture[5:8, 2:5] = picture[5:8, 11:14] = eyes
    picture[9:15, 3:13] = np.array(muzzle) * _dice(name).uniform(0.95, 1.05, (6, 10, 1))
    picture[10:13, 4:6] = picture[10:13, 10:12] = nostrils
    return picture


def _animals() -> dict[str, Picture]:
    brown, white = (70, 48, 34), (228, 224, 216)
    hide = _speckled("cow", brown, 0.1)
    cow_head = _speckled("cow head", brown, 0.08)
    cow_head[:9, 6:10] = white
    cow_leg, sheep_leg = _speckled("cow leg", brown, 0.1), _speckled("sheep leg", (206, 172, 148), 0.05)
    cow_leg[12:], sheep_leg[12:] = (52, 48, 46), (120, 100, 88)
    wool = _speckled("wool", (232, 232, 228), 0.06)
    pig, sheep_head = _speckled("pig", (238, 162, 158), 0.05), _speckled("sheep head", (212, 178, 154), 0.05)
    sheep_head[:4] = wool[:4]
    return {
        "cow_hide": _blotched("cow", hide, white, 5, 26),
        "cow_head": _blotched("cow head side", hide, white, 1, 12),
        "cow_face": _face("cow", cow_head, (24, 18, 16), (206, 178, 166), (72, 52, 48)),
        "cow_leg": cow_leg,
        "cow_horn": _speckled("horn", (214, 208, 192), 0.05),
        "cow_udder": _speckled("udder", (226, 160, 156), 0.05),
        "pig_skin": pig,
        "pig_face": _face("pig", pig, (30, 24, 26), (214, 128, 128), (110, 54, 58)),
        "pig_leg": _fringed("pig leg", _speckled("hoof", (196, 120, 118), 0.04), pig),
        "sheep_wool": wool,
        "sheep_head": sheep_head,
        "sheep_face": _face("sheep", sheep_head, (26, 22, 22), (222, 186, 168), (150, 104, 96)),
        "sheep_leg": sheep_leg,
    }


def _pictures(biome: str) -> dict[str, Picture]:
    """All textures of a biome, by name."""
    stone, dirt = _speckled("stone", (126, 126, 126), 0.07), _speckled("dirt", (134, 96, 67), 0.14)
    grass = _speckled("grass", _GRASS_TINT[biome], 0.13)
    sand, snow = _speckled("sand", (219, 207, 160), 0.05), _speckled("snow", (240, 246, 248), 0.025)
    sandstone = _speckled("sandstone", (214, 202, 152), 0.04)
    sandstone[[4, 5, 11]] *= 0.88
    pictures = {
        "water": _speckled("water", (48, 86, 196), 0.05),
        "bedrock": _speckled("bedrock", (84, 84, 84), 0.45),
        "stone": stone,
        "cobblestone": _cobble("cobblestone", (136, 136, 136)),
        "dirt": dirt,
        "grass_top": grass,
        "grass_side": _fringed("grass side", dirt, grass),
        "sand": sand,
        "sandstone": sandstone,
        "gravel": _cobble("gravel", (140, 132, 128)),
        "snow_block": snow,
        "cactus": _cactus(),
        "cactus_top": _framed(_speckled("cactus top", (104, 146, 64), 0.07), 0.7),
        "coal_ore": _blotched("coal", stone, (46, 46, 46), 6, 6),
        "iron_ore": _blotched("iron", stone, (216, 175, 147), 6, 5),
        "gold_ore": _blotched("gold", stone, (246, 208, 62), 6, 5),
        "diamond_ore": _blotched("diamond", stone, (93, 236, 245), 6, 5),
        "obsidian": _blotched("obsidian", _speckled("obsidian", (22, 18, 34), 0.3), (58, 40, 90), 5, 6),
        "table_top": _framed(_planks("oak"), 0.6),
        "table_side": _table_side(),
        "furnace": _furnace_front(),
        "furnace_top": _framed(_cobble("furnace top", (124, 124, 124)), 0.8),
        "white_wool": _speckled("white wool", (234, 236, 236), 0.04),
        **_animals(),
    }
    for wood in _BARK:
        pictures[f"{wood}_log"], pictures[f"{wood}_log_top"] = _bark(wood), _rings(wood)
        pictures[f"{wood}_leaves"], pictures[f"{wood}_planks"] = _leaves(wood), _planks(wood)
    return pictures


PICTURES = {biome: _pictures(biome) for biome in BIOMES}
"""Biome -> name -> picture; the names are the same in all biomes."""

_FACES: dict[str, tuple[str, str, str]] = {
    "air": ("stone", "stone", "stone"),
    "grass_block": ("grass_top", "dirt", "grass_side"),
    "cactus": ("cactus_top", "cactus_top", "cactus"),
    "crafting_table": ("table_top", "oak_planks", "table_side"),
    "furnace": ("furnace_top", "furnace_top", "furnace"),
    **{f"{wood}_log": (f"{wood}_log_top", f"{wood}_log_top", f"{wood}_log") for wood in _BARK},
}
BLOCK_FACES = {block: _FACES.get(block, (block, block, block)) for block in BLOCKS}
"""Block -> the names of the pictures on its top, bottom and sides."""


def side_of(block: str) -> Picture:
    """The side of a block, for its icon."""
    return PICTURES["plains"][BLOCK_FACES[block][2]]
