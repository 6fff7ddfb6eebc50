"""One world, driven tick by tick with raw keys and chat, as a client drives Minecraft's engine.

Axes: G groups of buttons.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mineonline.envs.actions import GROUP_SIZES, GROUPS
from mineonline.envs.names import BIOMES
from mineonline.envs.world.art import load_art
from mineonline.envs.world.blocks import BLOCK_ID
from mineonline.envs.world.commands import put_into_slot, run_command
from mineonline.envs.world.draw import draw_one
from mineonline.envs.world.info import Bounds, Info, info_of
from mineonline.envs.world.spawn import arrive, be_reborn, empty_slots
from mineonline.envs.world.state import World, new_world
from mineonline.envs.world.tick import live

MOST_MOBS = 128
_NO_KEYS = np.zeros(len(GROUPS), np.int64)


def start_mission(world: World, n: int, mission_seed: int, biome: str | None, near: str | None) -> None:
    """Start a mission in world n. The seed determines the land, all random numbers, and the biome if none is given.

    The player has nothing, and stands in the open or next to a block of kind `near`. ValueError for an unknown biome.
    """
    player = world.player[n]
    player["mission"], player["near"], player["tick"] = mission_seed, -1 if near is None else BLOCK_ID[near], 0
    empty_slots(world.slot[n])
    world.counter[n] = 0.0
    arrive(world, n, np.uint64(mission_seed), -1 if biome is None else BIOMES.index(biome))


def idle(world: World, n: int, ticks: int) -> None:
    """Run ticks without a key."""
    live(world, n, _NO_KEYS, 0.0, 0.0, ticks)


def say(world: World, n: int, commands: Iterable[str]) -> None:
    """Run chat commands, each followed by a tick without a key. CommandError for one that is not known."""
    for command in commands:
        run_command(world, n, command)
        idle(world, n, 1)


class Session:
    """One world with room for 128 mobs, for any number of missions, one after another."""

    def __init__(self) -> None:
        self.world = new_world(1, MOST_MOBS)
        self._art = load_art()

    @property
    def dead(self) -> bool:
        """Whether the player died in the last tick; it respawns in the next."""
        return bool(self.world.player[0]["health"] <= 0)

    def begin(self, *, mission_seed: int, biome: str | None, inventory: Iterable[tuple[int, str, int]] = ()) -> None:
        """Start a mission; see `start_mission`. `inventory`: (slot 0 to 40, item, count). Counters start at 0.

        ValueError for an unknown biome or item, a slot that does not exist, or a stack that is too large.
        """
        if biome is not None and biome not in BIOMES:
            raise ValueError(f"no biome is called {biome!r}; the biomes are {', '.join(BIOMES)}")
        start_mission(self.world, 0, mission_seed, biome, None)
        for slot, item, count in inventory:
            put_into_slot(self.world, 0, slot, item, count)

    def tick(self, choice_G: ArrayLike, pitch_degrees: float, yaw_degrees: float, chat: str | None = None) -> None:
        """Run one tick with one choice per group of `actions.GROUPS`; the view turns by the given degrees.

        A chat command runs before the tick; CommandError if it is not known, and then there is no tick.
        """
        choice = np.asarray(choice_G, np.int64)
        if choice.shape != (len(GROUPS),) or (choice < 0).any() or (choice >= np.array(GROUP_SIZES)).any():
            raise ValueError(
                f"one choice in each of the groups {', '.join(GROUPS)} is needed, from 0 to less "
                f"than {GROUP_SIZES}, not {choice.tolist()}"
            )
        if self.dead:
            be_reborn(self.world, 0)
        if chat is not None:
            run_command(self.world, 0, chat)
        live(self.world, 0, choice, float(pitch_degrees), float(yaw_degrees), 1)

    def info(self, voxels: Bounds | None = None, mobs: Bounds | None = None) -> Info:
        """MineStudio's current info, with the blocks and the mobs within bounds; counters cover the whole mission."""
        return info_of(self.world, 0, voxels, mobs)

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """What the player sees, `[height, width, 3]`, top row first."""
        image = np.zeros((height, width, 3), np.uint8)
        draw_one(self.world, self._art, 0, image, np.zeros((height, width), np.float32))
        return image
