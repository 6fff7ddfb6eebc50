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
    """Begin a mission in world n. The seed decides the land, the biome too where none is given, and all chance.

    The player has nothing, and stands in the open or next to a block that is `near`. ValueError for an unknown biome.
    """
    player = world.player[n]
    player["mission"], player["near"], player["tick"] = mission_seed, -1 if near is None else BLOCK_ID[near], 0
    empty_slots(world.slot[n])
    world.counter[n] = 0.0
    arrive(world, n, np.uint64(mission_seed), -1 if biome is None else BIOMES.index(biome))


def idle(world: World, n: int, ticks: int) -> None:
    """Let time pass without a key."""
    live(world, n, _NO_KEYS, 0.0, 0.0, ticks)


def say(world: World, n: int, commands: Iterable[str]) -> None:
    """Run chat commands, each followed by a tick without a key. CommandError for one that the world does not know."""
    for command in commands:
        run_command(world, n, command)
        idle(world, n, 1)


class Session:
    """One world with room for 128 mobs, in which any number of missions follow one another."""

    def __init__(self) -> None:
        self.world = new_world(1, MOST_MOBS)
        self._art = load_art()

    @property
    def dead(self) -> bool:
        """Whether the player died in the last tick; in the next it is born again."""
        return bool(self.world.player[0]["health"] <= 0)

    def begin(self, *, mission_seed: int, biome: str | None, inventory: Iterable[tuple[int, str, int]] = ()) -> None:
        """Begin a mission; see `start_mission`. `inventory` is (slot 0 to 40, item, count); counters begin at 0.

        ValueError for a biome or an item that is unknown, for a slot that does not exist, and for a stack too large.
        """
        if biome is not None and biome not in BIOMES:
            raise ValueError(f"no biome is called {biome!r}; there are {', '.join(BIOMES)}")
        start_mission(self.world, 0, mission_seed, biome, None)
        for slot, item, count in inventory:
            put_into_slot(self.world, 0, slot, item, count)

    def tick(self, choice_G: ArrayLike, pitch_degrees: float, yaw_degrees: float, chat: str | None = None) -> None:
        """A twentieth of a second with one choice in each group of `actions.GROUPS`; the view turns by some degrees.

        A chat command acts before the tick; CommandError if the world does not know it, and then no time passes.
        """
        choice = np.asarray(choice_G, np.int64)
        if choice.shape != (len(GROUPS),) or (choice < 0).any() or (choice >= np.array(GROUP_SIZES)).any():
            raise ValueError(
                f"one choice in each of the groups {', '.join(GROUPS)} is needed, 0 to less than "
                f"{GROUP_SIZES}, but they are {choice.tolist()}"
            )
        if self.dead:
            be_reborn(self.world, 0)
        if chat is not None:
            run_command(self.world, 0, chat)
        live(self.world, 0, choice, float(pitch_degrees), float(yaw_degrees), 1)

    def info(self, voxels: Bounds | None = None, mobs: Bounds | None = None) -> Info:
        """MineStudio's info of now, with the blocks and the mobs within bounds; counters are of the whole mission."""
        return info_of(self.world, 0, voxels, mobs)

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """What the player sees, `[height, width, 3]`, the top row first."""
        image = np.zeros((height, width, 3), np.uint8)
        draw_one(self.world, self._art, 0, image, np.zeros((height, width), np.float32))
        return image
