"""Draws whole pictures: the land, the bodies in it, and the HUD over both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mineonline.envs.world.art import Art
from mineonline.envs.world.bodies import draw_arrows, draw_drops, draw_mobs
from mineonline.envs.world.camera import eye_of
from mineonline.envs.world.hud import draw_hud
from mineonline.envs.world.jit import kernel
from mineonline.envs.world.mining import REACH, look_at_block
from mineonline.envs.world.physics import is_water
from mineonline.envs.world.state import World
from mineonline.envs.world.view import draw_land


@kernel
def draw_one(world: World, art: Art, n: int, image: NDArray[np.uint8], depth: NDArray[np.float32]) -> None:
    """Draw what the player of world n sees into `image` [height, width, 3]; `depth` [height, width] is scratch."""
    player = world.player[n]
    atlas = art.atlas[player.biome]
    looked_at, _, _ = look_at_block(world.block[n], player, REACH)
    draw_land(image, depth, world.block[n], world.roof[n], world.tile_roof[n], player, atlas, looked_at)
    draw_drops(image, depth, world.drop[n], player, atlas)
    draw_arrows(image, depth, world.arrow[n], player, atlas)
    draw_mobs(image, depth, world.mob[n], player, atlas)
    eye = eye_of(player)
    draw_hud(image, player, world.slot[n], art.icons, is_water(world.block[n], eye[0], eye[1], eye[2]))


@kernel
def draw(
    world: World, art: Art, which_N: NDArray[np.bool_], image_NHWC: NDArray[np.uint8], depth: NDArray[np.float32]
) -> None:
    """Draw the worlds of `which_N`; the pictures of the others stay as they are."""
    for n in range(which_N.shape[0]):
        if which_N[n]:
            draw_one(world, art, n, image_NHWC[n], depth)
