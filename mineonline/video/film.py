"""Films an episode: the environment's pictures, and what the policy predicted and did."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import gymnasium
import msgspec
import numpy as np
from numpy.typing import NDArray

from mineonline.envs.actions import CAMERA_DEGREES, GROUPS, masked_buttons
from mineonline.envs.contract import Action, Step, VectorEnv
from mineonline.envs.gym import GymEnv
from mineonline.envs.minestudio.env import MineStudioEnv
from mineonline.envs.own import OwnEnv
from mineonline.envs.settings import CrafterEnvConfig, GymEnvConfig, WorldEnvConfig
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.tasks import Task
from mineonline.errors import EnvError
from mineonline.settings.config import Config
from mineonline.video.file import VideoFile
from mineonline.video.overlay import Caption, Controls, Frame, Overlay, even

if TYPE_CHECKING:  # they import numba: half a second that gym does not need
    from mineonline.envs.crafter import CrafterEnv
    from mineonline.envs.world import MixedWorlds, WorldEnv

WORLD_FPS = 20
"""Ticks of the game per second."""
GYM_FPS = 30
CRAFTER_FPS = 10


Watch = Callable[[NDArray[np.float32], Action, Step], None]
"""Called after each decision with the values of all environments, the action, and what it led to."""


class Camera(Protocol):
    """Looks at environment 0."""

    fps: int

    def frames(self) -> list[Frame]:
        """The pictures since the last call; the last one shows the current state."""

    def controls(self, action: Action) -> Controls | str:
        """Environment 0's action, as shown to people."""

    def close(self) -> None:
        """Stop taking pictures."""


class Keys:
    """The keys that environment 0's action presses, under a task's mask."""

    def __init__(self, task: Task) -> None:
        self._buttons = masked_buttons(task.actions.forbid, task.actions.hold)

    def of(self, action: Action) -> Controls:
        choices = zip(GROUPS.values(), self._buttons[action["buttons"][0]], strict=True)
        pressed = frozenset(names[choice] for names, choice in choices if choice)
        down, right = CAMERA_DEGREES[action["camera"][0]] if "camera" in pressed else (0.0, 0.0)
        return Controls(pressed, float(down), float(right))


class WorldCamera:
    """A picture of every tick of world 0, at `size` (width, height)."""

    fps = WORLD_FPS

    def __init__(self, env: WorldEnv, task: Task, size: tuple[int, int]) -> None:
        self._env = env
        self._size = size
        self._keys = Keys(task)
        self._tick = 0
        self._frames: list[Frame] = []
        env.on_tick = self._shoot

    def frames(self) -> list[Frame]:
        taken, self._frames = self._frames, []
        return taken

    def controls(self, action: Action) -> Controls | str:
        return self._keys.of(action)

    def close(self) -> None:
        self._env.on_tick = None

    def _shoot(self) -> None:
        tick = int(self._env.world.player[0]["tick"])
        if tick != self._tick:  # world 0 stops at the end of its episode, while other worlds continue
            self._tick = tick
            self._frames.append(self._env.render(0, *self._size))


class MineStudioCamera:
    """The engine's picture of every tick of simulator 0."""

    fps = WORLD_FPS

    def __init__(self, env: MineStudioEnv, task: Task) -> None:
        self._env = env
        self._keys = Keys(task)
        env.filmed = True

    def frames(self) -> list[Frame]:
        return self._env.pictures()

    def controls(self, action: Action) -> Controls | str:
        return self._keys.of(action)

    def close(self) -> None:
        self._env.filmed = False


class FilmedGymEnv(GymEnv):
    """A `GymEnv` whose first environment can be rendered. EnvError if it draws no pictures."""

    def __init__(self, config: GymEnvConfig, *, num_envs: int, seed: int, first_index: int) -> None:
        modes = _render_modes(config)
        if "rgb_array" not in modes:
            raise EnvError(
                f"env.id={config.id} cannot be recorded: it has no render mode rgb_array (it has: "
                f"{', '.join(modes) or 'none'}). Leave video=... out."
            )
        kwargs = {**config.kwargs, "render_mode": "rgb_array"}
        filmed = msgspec.structs.replace(config, kwargs=kwargs)
        super().__init__(filmed, num_envs=num_envs, seed=seed, first_index=first_index)
        self._pictures: list[Frame] = []

    def render(self) -> list[Frame]:
        """What the first environment shows now, `[H, W, 3]`; if it has failed, what it showed last, if anything."""
        env = self._envs[0]
        if env is None:
            return self._pictures
        try:
            picture = env.render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise EnvError(f"the environment cannot be recorded: a package is missing. {error}") from None
        assert isinstance(picture, np.ndarray), picture
        self._pictures = [picture.astype(np.uint8, copy=False)]
        return self._pictures


class GymCamera:
    """A picture after every step of a gymnasium environment."""

    fps = GYM_FPS

    def __init__(self, env: FilmedGymEnv) -> None:
        self._env = env

    def frames(self) -> list[Frame]:
        return self._env.render()

    def controls(self, action: Action) -> Controls | str:
        return _in_words(action)

    def close(self) -> None:
        """Nothing to stop."""


class CrafterCamera:
    """A picture after every step of a Crafter environment, at `size` (width, height)."""

    fps = CRAFTER_FPS

    def __init__(self, env: CrafterEnv, size: tuple[int, int]) -> None:
        from mineonline.envs.crafter import ACTIONS  # needs a package that only Crafter users install

        self._env = env
        self._size = size
        self._names: tuple[str, ...] = ACTIONS

    def frames(self) -> list[Frame]:
        return [self._env.render(0, *self._size)]

    def controls(self, action: Action) -> Controls | str:
        return self._names[int(action["action"][0])]

    def close(self) -> None:
        """Nothing to stop."""


class OwnCamera:
    """A picture after every step of an environment of the user's own. EnvError if it draws none."""

    def __init__(self, env: OwnEnv) -> None:
        self._env = env
        self.fps = env.fps
        env.check_renders()

    def frames(self) -> list[Frame]:
        return [self._env.render()]

    def controls(self, action: Action) -> Controls | str:
        return _in_words(action)

    def close(self) -> None:
        """Nothing to stop."""


class Recording:
    """Records the first episode of environment 0 as a video. `bare`: without what `overlay` draws."""

    def __init__(self, camera: Camera, video: VideoFile, *, bare: bool = False) -> None:
        self._camera = camera
        self._video = video
        self._bare = bare
        self._overlay = Overlay(camera.fps)
        self._running = True
        self.episode_return = 0.0

    def watch(self, value_N: NDArray[np.float32], action: Action, step: Step) -> None:
        """Film one decision: what the policy predicted and did, and what that led to."""
        if not self._running:
            return
        self.episode_return += float(step.reward_N[0])
        frames = self._camera.frames()
        controls = self._camera.controls(action)
        for i, frame in enumerate(frames):
            # the reward of a decision is known, and shown, at its last tick
            reward = float(step.reward_N[0]) if i == len(frames) - 1 else 0.0
            time_s = (self._video.frames + 1) / self._camera.fps
            if self._bare:
                self._video.write(even(frame))
                continue
            self._video.write(self._overlay.draw(frame, Caption(time_s, float(value_N[0]), reward, controls)))
        if step.terminated_N[0] or step.truncated_N[0]:
            self._running = False
            self._camera.close()


def camera_on(config: Config, env: VectorEnv) -> Camera:
    """A camera on environment 0, which plays one task. EnvError if this kind of environment cannot be recorded."""
    if isinstance(config.env, WorldEnvConfig):
        task = config.played
        if isinstance(task, TaskMix):
            index = task.turns[0]
            env, task = cast("MixedWorlds", env).parts[index], task.tasks[index]
        assert task is not None
        return WorldCamera(cast("WorldEnv", env), task, config.env.video_size)
    if isinstance(env, MineStudioEnv):
        return MineStudioCamera(env, env.tasks[0])
    if isinstance(config.env, CrafterEnvConfig):
        return CrafterCamera(cast("CrafterEnv", env), config.env.video_size)
    if isinstance(env, FilmedGymEnv):
        return GymCamera(env)
    if isinstance(env, OwnEnv):
        return OwnCamera(env)
    raise EnvError(f"env={msgspec.to_builtins(config.env)['kind']} cannot be recorded. Leave video=... out.")


def _in_words(action: Action) -> str:
    return "action " + " ".join(str(np.round(chosen[0], 2)) for chosen in action.values())


def _render_modes(config: GymEnvConfig) -> list[str]:
    env = gymnasium.make(config.id, **config.kwargs)
    try:
        return [str(mode) for mode in env.metadata.get("render_modes") or []]
    finally:
        env.close()
