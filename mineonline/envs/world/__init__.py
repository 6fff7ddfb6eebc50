"""The embedded voxel world: MineStudio's contract without Java, compiled; one call steps N worlds.

In reading order: `state` (what a world is), `terrain` and `spawn` (how it starts), `tick` (what happens in a twentieth
of a second, with `physics`, `mining`, `use`, `bow`, `combat`, `mobs`, `inventory`, `portal`), `commands` (the chat
commands), `draw` (what the player sees, with `view`, `bodies`, `hud`), `session` (one world, driven by raw keys and
chat), `env` (the contract), `mixed` (several tasks) and `info`.
"""

from mineonline.envs.world.env import WorldEnv, warm_up
from mineonline.envs.world.mixed import MixedWorlds

__all__ = ["MixedWorlds", "WorldEnv", "warm_up"]
