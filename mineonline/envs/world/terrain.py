"""The land: hills, lakes, ores and trees of one biome, from a seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.names import BIOMES
from mineonline.envs.world.blocks import AIR, BLOCK_ID, WATER
from mineonline.envs.world.chance import below, lattice, mix, uniform
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.state import HEIGHT, SIZE, STRIDE_X, STRIDE_Z, TILE, TILES, Record

SEA_LEVEL = 9
"""Lakes fill up to here; the ground is about as high."""

_STONE, _BEDROCK, _DIRT = BLOCK_ID["stone"], BLOCK_ID["bedrock"], BLOCK_ID["dirt"]
_GRASS, _SAND, _SANDSTONE = BLOCK_ID["grass_block"], BLOCK_ID["sand"], BLOCK_ID["sandstone"]
_SNOW, _CACTUS, _GRAVEL = BLOCK_ID["snow_block"], BLOCK_ID["cactus"], BLOCK_ID["gravel"]
_FIRST_LOG, _FIRST_LEAVES = BLOCK_ID["oak_log"], BLOCK_ID["oak_leaves"]
_OAK, _BIRCH, _SPRUCE, _ACACIA, _CACTUS_TREE = range(5)

# ground above the sea, height of hills, their width (all in blocks), trees, their kind, top block, block below it
_LAND = {
    "plains": (2.0, 2.5, 26, 6, _OAK, "grass_block", "dirt"),
    "forest": (2.4, 4.0, 20, 62, _OAK, "grass_block", "dirt"),
    "birch_forest": (2.4, 4.0, 20, 58, _BIRCH, "grass_block", "dirt"),
    "taiga": (2.4, 5.0, 18, 52, _SPRUCE, "grass_block", "dirt"),
    "snowy_taiga": (2.4, 5.0, 18, 44, _SPRUCE, "snow_block", "dirt"),
    "savanna": (2.4, 2.5, 28, 13, _ACACIA, "grass_block", "dirt"),
    "desert": (2.8, 3.0, 16, 16, _CACTUS_TREE, "sand", "sandstone"),
    "mountains": (4.5, 13.0, 22, 10, _SPRUCE, "grass_block", "stone"),
}
_SHAPE = np.array([_LAND[biome][:3] for biome in BIOMES])
_TREES = np.array([_LAND[biome][3:5] for biome in BIOMES], np.int64)
_COVER = np.array([[BLOCK_ID[name] for name in _LAND[biome][5:]] for biome in BIOMES], np.uint8)

# ore, veins, blocks per vein, greatest height
_ORES = np.array(
    [
        [BLOCK_ID["coal_ore"], 14, 8, 14],
        [BLOCK_ID["iron_ore"], 10, 5, 10],
        [BLOCK_ID["gold_ore"], 3, 4, 6],
        [BLOCK_ID["diamond_ore"], 3, 4, 4],
        [_GRAVEL, 4, 14, 12],
    ],
    np.int64,
)


@kernel
def _noise(seed: np.uint64, x: float, z: float) -> float:
    """Smooth noise in [0, 1] whose hills are one unit wide."""
    i, k = math.floor(x), math.floor(z)
    u, w = x - i, z - k
    u, w = u * u * (3.0 - 2.0 * u), w * w * (3.0 - 2.0 * w)
    near = lattice(seed, i, k) * (1.0 - u) + lattice(seed, i + 1, k) * u
    far = lattice(seed, i, k + 1) * (1.0 - u) + lattice(seed, i + 1, k + 1) * u
    return near * (1.0 - w) + far * w


@kernel
def _ground_height(seed: np.uint64, biome: int, x: int, z: int) -> int:
    above_sea, hills, width = _SHAPE[biome]
    rough = _noise(seed, x / width, z / width)
    fine = _noise(mix(seed), x * 2.7 / width, z * 2.7 / width)
    height = SEA_LEVEL + above_sea + hills * (0.75 * rough + 0.25 * fine - 0.5) * 1.6
    return int(min(HEIGHT - 9, max(3, math.floor(height))))


@kernel
def _fill_columns(block: NDArray[np.uint8], seed: np.uint64, biome: int) -> None:
    top_block, under_block = _COVER[biome]
    for x in range(SIZE):
        for z in range(SIZE):
            height = _ground_height(seed, biome, x, z)
            column = block[x * STRIDE_X + z * STRIDE_Z : x * STRIDE_X + z * STRIDE_Z + HEIGHT]
            column[0] = _BEDROCK
            column[1 : height - 3] = _STONE
            column[height - 3 : height] = under_block
            beach = height <= SEA_LEVEL
            column[height] = _SAND if beach else top_block
            column[height + 1 :] = AIR
            if beach:
                column[height + 1 : SEA_LEVEL + 1] = WATER


@kernel
def _bury_ores(block: NDArray[np.uint8], player: Record) -> None:
    for kind in range(_ORES.shape[0]):
        ore, veins, size, highest = _ORES[kind]
        for _ in range(veins):
            x, y, z = below(player, SIZE), 1 + below(player, highest), below(player, SIZE)
            for _ in range(size):
                cell = x * STRIDE_X + z * STRIDE_Z + y
                if block[cell] == _STONE:
                    block[cell] = ore
                x = min(SIZE - 1, max(0, x + below(player, 3) - 1))
                y = min(HEIGHT - 1, max(1, y + below(player, 3) - 1))
                z = min(SIZE - 1, max(0, z + below(player, 3) - 1))


@kernel
def surface(block: NDArray[np.uint8], x: int, z: int) -> int:
    """Height of the highest block of a column, water included."""
    column = x * STRIDE_X + z * STRIDE_Z
    y = HEIGHT - 1
    while y > 0 and block[column + y] == AIR:
        y -= 1
    return y


@kernel
def _put_leaves(block: NDArray[np.uint8], x: int, y: int, z: int, radius: int, wood: int, player: Record) -> None:
    """A layer of leaves with ragged corners."""
    for dx in range(-radius, radius + 1):
        for dz in range(-radius, radius + 1):
            if abs(dx) == radius and abs(dz) == radius and uniform(player) < 0.7:
                continue
            cell = (x + dx) * STRIDE_X + (z + dz) * STRIDE_Z + y
            if block[cell] == AIR:
                block[cell] = _FIRST_LEAVES + wood


@kernel
def _grow_tree(block: NDArray[np.uint8], x: int, z: int, kind: int, player: Record) -> None:
    y = surface(block, x, z) + 1
    column = x * STRIDE_X + z * STRIDE_Z
    if kind == _CACTUS_TREE:
        block[column + y : column + y + 1 + below(player, 3)] = _CACTUS
        return
    trunk = 4 + below(player, 3) + (1 if kind in (_BIRCH, _SPRUCE) else 0)
    crown = y + trunk
    if kind == _SPRUCE:
        for layer in range(y + 2, crown + 1):
            _put_leaves(block, x, layer, z, 1 + (crown - layer) % 2 if layer < crown else 1, kind, player)
    elif kind == _ACACIA:
        _put_leaves(block, x, crown - 1, z, 3, kind, player)
        _put_leaves(block, x, crown, z, 2, kind, player)
    else:
        for layer in range(crown - 2, crown + 2):
            _put_leaves(block, x, layer, z, 2 if layer < crown else 1, kind, player)
    block[column + y : column + crown] = _FIRST_LOG + kind
    block[column + crown] = _FIRST_LEAVES + kind


@kernel
def _plant(block: NDArray[np.uint8], player: Record) -> None:
    trees, kind = _TREES[player.biome]
    for _ in range(trees):
        x, z = 4 + below(player, SIZE - 8), 4 + below(player, SIZE - 8)
        soil = block[x * STRIDE_X + z * STRIDE_Z + surface(block, x, z)]
        # keep the middle free, where the player appears
        in_the_open = abs(x - SIZE // 2) <= 1 and abs(z - SIZE // 2) <= 1
        if (soil in (_GRASS, _SNOW) or (soil == _SAND and kind == _CACTUS_TREE)) and not in_the_open:
            _grow_tree(block, x, z, kind, player)


@kernel
def generate(block: NDArray[np.uint8], player: Record, biome: int) -> None:
    """Fill a world's blocks with land of a biome (-1: any), with random numbers from `player.rng`."""
    player.biome = biome if biome >= 0 else below(player, _SHAPE.shape[0])
    seed = mix(np.uint64(player.rng))
    _fill_columns(block, seed, player.biome)
    _bury_ores(block, player)
    _plant(block, player)
    player.ground = SEA_LEVEL + math.floor(_SHAPE[player.biome, 0])


@kernel
def survey(block: NDArray[np.uint8], roof: NDArray[np.uint8], tile_roof: NDArray[np.uint8], player: Record) -> None:
    """Measure the land after a change: the roofs of columns and tiles, and the height above all blocks."""
    tile_roof[:] = 0
    for x in range(SIZE):
        for z in range(SIZE):
            y = surface(block, x, z)
            tile = x // TILE * TILES + z // TILE
            roof[x * SIZE + z] = y
            tile_roof[tile] = max(y, tile_roof[tile])
    player.top = int(tile_roof.max()) + 1


@kernel
def measure_column(
    block: NDArray[np.uint8], roof: NDArray[np.uint8], tile_roof: NDArray[np.uint8], player: Record, x: int, z: int
) -> None:
    """`survey` of one column after a block was placed in it."""
    y = surface(block, x, z)
    tile = x // TILE * TILES + z // TILE
    roof[x * SIZE + z] = y
    tile_roof[tile] = max(y, tile_roof[tile])
    player.top = max(player.top, y + 1)
