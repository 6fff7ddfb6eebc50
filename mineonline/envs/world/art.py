"""All pictures that the renderer needs, as arrays indexed by id.

Axes: B biomes, T textures, I items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES, BLOCKS, ITEMS
from mineonline.envs.world.icons import ICONS
from mineonline.envs.world.textures import BLOCK_FACES, PICTURES, Picture

_MIP_SIZES = (16, 8, 4, 2, 1)
TEXELS = sum(size * size for size in _MIP_SIZES)
"""Texels of a texture and its smaller copies."""
_TEXTURES = (*PICTURES[BIOMES[0]], *(f"item {item}" for item in ITEMS))
TEXTURE_ID = {name: number for number, name in enumerate(_TEXTURES)}
ITEM_TEXTURE = TEXTURE_ID[f"item {ITEMS[0]}"]
"""The texture id of item 0; the other items follow."""

FACE_TEXTURE = np.array([[TEXTURE_ID[face] for face in BLOCK_FACES[block]] for block in BLOCKS], np.int64)
"""[blocks, 3]: the textures of a block's top, bottom and sides"""


class Art(NamedTuple):
    """Arrays that are too large to be constants in a compiled kernel."""

    atlas: NDArray[np.uint8]
    """[B, T * TEXELS, 3]: each texture at 16, 8, 4, 2 and 1 texels a side, one copy after another"""
    icons: NDArray[np.uint8]
    """[I, 16, 16, 4]"""


def _with_smaller_copies(picture: Picture) -> NDArray[np.uint8]:
    copies = [picture.reshape(size, 16 // size, size, 16 // size, 3).mean(axis=(1, 3)) for size in _MIP_SIZES]
    return np.concatenate([copy.reshape(-1, 3) for copy in copies]).round().astype(np.uint8)


def _opaque(icon: NDArray[np.uint8]) -> Picture:
    """An icon on a background of its mean colour: dropped items are drawn as little cubes."""
    drawn = icon[..., 3:] > 0
    mean = icon[..., :3][drawn[..., 0]].mean(axis=0) if drawn.any() else np.zeros(3)
    return np.where(drawn, icon[..., :3].astype(np.float64), mean)


def load_art() -> Art:
    """Draw everything; takes about 50 ms."""
    items = [_with_smaller_copies(_opaque(icon)) for icon in ICONS]
    atlas = [[_with_smaller_copies(picture) for picture in PICTURES[biome].values()] + items for biome in BIOMES]
    return Art(atlas=np.array(atlas).reshape(len(BIOMES), -1, 3), icons=ICONS)
