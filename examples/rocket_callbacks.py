"""What examples/rocket_policy.py sees besides the picture: MineStudio callbacks that write into `obs`.

They run in the simulator's process; `env.observations` in examples/conf/experiment/rocket.yaml declares the arrays.
"""

import collections

import numpy as np
from minestudio.simulator.callbacks import MinecraftCallback

REACH = 16
TAN = np.tan(np.radians(70 / 2))  # half of Minecraft's field of view, from top to bottom


class GoalMask(MinecraftCallback):
    """`obs["mask"]`: where in the picture the nearest `animal` is. ROCKET-1 has it from a segmentation model."""

    def __init__(self, animal, size):
        self.animal, (self.width, self.height) = animal, size

    def before_step(self, sim, action):
        action["mobs"] = [-REACH, REACH, -8, 8, -REACH, REACH]  # the engine answers in info["mobs"]
        return action

    def after_reset(self, sim, obs, info):
        obs["mask"] = np.zeros((self.height, self.width), np.bool_)
        return obs, info

    def after_step(self, sim, obs, reward, terminated, truncated, info):
        animals = [np.array([m["x"], m["y"], m["z"]]) for m in info["mobs"] if m["name"] == self.animal]
        mask = obs["mask"] = np.zeros((self.height, self.width), np.bool_)
        for way in sorted(animals, key=np.linalg.norm):
            if not mask.any():
                self._draw(mask, way, info["player_pos"], sim.render_size)
        return obs, reward, terminated, truncated, info

    def _draw(self, mask, way, player, render_size):
        """`way`: from the player's feet to the animal's, in blocks."""
        east, up, south = way - [0, 1.62 - 0.7, 0]  # from the player's eyes to the animal's middle
        yaw, pitch = np.radians(player["yaw"]), np.radians(player["pitch"])
        ahead, right = south * np.cos(yaw) - east * np.sin(yaw), -east * np.cos(yaw) - south * np.sin(yaw)
        depth, above = ahead * np.cos(pitch) - up * np.sin(pitch), ahead * np.sin(pitch) + up * np.cos(pitch)
        if depth > 0.3:
            wide = TAN * render_size[0] / render_size[1]
            # from -1 to 1 over the picture; an animal reaches 0.6 blocks from its middle
            y, x = np.ogrid[-1 : 1 : self.height * 1j, -1 : 1 : self.width * 1j]
            mask |= (abs(x * wide * depth - right) < 0.6) & (abs(y * TAN * depth + above) < 0.6)


class PreviousAction(MinecraftCallback):
    """`obs["previous"]`: the keys that the last `ticks` pressed, 1 or 0, and their turn in tens of degrees."""

    KEYS = ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use")

    def __init__(self, ticks):
        self.last = collections.deque(maxlen=ticks)

    def before_step(self, sim, action):
        self.last.append([*(float(action[key]) for key in self.KEYS), *np.asarray(action["camera"]) / 10])
        return action

    def after_reset(self, sim, obs, info):
        self.last.clear()
        obs["previous"] = np.zeros(len(self.KEYS) + 2, np.float32)
        return obs, info

    def after_step(self, sim, obs, reward, terminated, truncated, info):
        last = np.array(self.last, np.float32)
        obs["previous"] = np.concatenate([last[:, :-2].max(0), last[:, -2:].sum(0)])
        return obs, reward, terminated, truncated, info
