"""What can be set for each environment, in the section `env` of a configuration."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mineonline.envs.contract import TensorSpec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a configuration: an unknown key is an error."""


class WorldEnvConfig(Section, frozen=True, tag="world", tag_field="kind"):
    """The embedded voxel world."""

    image_size: tuple[int, int]
    """Width and height of the picture that the policy sees, in pixels."""
    video_size: tuple[int, int]
    """Width and height of the frames of videos, in pixels."""


class GymEnvConfig(Section, frozen=True, tag="gym", tag_field="kind"):
    """Any gymnasium environment. Observations: Box, Discrete, MultiDiscrete, MultiBinary, or Dicts and Tuples of these;
    a uint8 Box with three axes is a picture. Actions: the same; those of a Box are sampled without regard to its
    bounds, and then clipped to them."""

    id: str
    """Registered name, for example `CartPole-v1`."""
    step_timeout_s: float
    """A step, or the start of an episode, that takes longer counts as a hang: the environment is replaced. Set it to
    several times what the slowest takes."""
    max_failures: int
    """The run ends when an environment has failed this many times without a decision in between."""
    processes: bool | Literal["auto"] = "auto"
    """Step each environment in a process of its own, at its own pace, so that none waits for another: for slow games.
    `auto`: in a collector, if a step takes more than 2 ms, which each worker tries at its start; not in lockstep."""
    kwargs: dict[str, Any] = {}
    """Passed to `gymnasium.make`."""


class CrafterEnvConfig(Section, frozen=True, tag="crafter", tag_field="kind"):
    """Crafter (Hafner 2021): 64x64 pictures and 17 actions."""

    time_limit_steps: int
    """Steps after which an episode is truncated; published results use 10000."""
    video_size: tuple[int, int]
    """Width and height of the frames of videos, in pixels."""


class SyntheticEnvConfig(Section, frozen=True, tag="synthetic", tag_field="kind"):
    """No world: pictures of noise, Minecraft's actions, and a step that only waits."""

    image_size: tuple[int, int]
    """Width and height of the picture that the policy sees, in pixels."""
    step_ms: float
    """How long a step of one environment lasts, on average; all environments of a worker wait at the same time. 0: as
    fast as it can."""
    jitter: float
    """σ of the logarithm of this time, usually 0 (all steps alike) to 1."""
    episode_decisions: int
    """Decisions after which an episode is truncated."""


class OwnEnvConfig(Section, frozen=True, tag="own", tag_field="kind"):
    """A class of your own.

    If it raises or returns what it did not promise, the run ends, or its collector starts all its workers anew. What
    should cost one episode only, it catches itself and reports in `Step.crashed_N`.
    """

    target: str = msgspec.field(name="_target_")
    """Import path of the class, for example `my_package.MyEnv`: it implements `mineonline.VectorEnv`, and
    `envs/own.py` says how it is called. Trainer and collectors must be able to import it."""
    kwargs: dict[str, Any]
    """Further keyword arguments of the class. `+env.kwargs.task='${task}'` gives it the run's task, as a dict."""


IDLE_S = 0.25
"""How long a row lasts while every environment of a worker waits for an episode to start."""


class DeclaredObservation(Section, frozen=True):
    """An array that a callback of the user's writes into MineStudio's `obs`."""

    shape: tuple[int, ...]
    """For one environment and one row; empty for a single number."""
    dtype: str
    """One of `DTYPES`."""


DTYPES = ("uint8", "int64", "float32", "bool")


class MineStudioEnvConfig(Section, frozen=True, tag="minestudio", tag_field="kind"):
    """MineStudio's simulator: Minecraft 1.16.5."""

    engine: Literal["minecraft", "world"]
    """`minecraft`: the real one (needs a screen, and Java with a 2 GB heap per environment). `world`: the embedded
    world behind the same protocol, to try a configuration without these."""
    image_size: tuple[int, int]
    """Width and height of the picture that the policy sees, in pixels: MineStudio's `obs_size`."""
    render_size: tuple[int, int]
    """The same for the engine's window, from which that picture is made, and for videos. Minecraft's is 640x360."""
    host_starts: int
    """How many engines may start at the same time on a host, over all processes of a user."""
    start_timeout_s: float
    """An episode that has not started after this long counts as a hang: the simulator is replaced. Set it to several
    times what the engine takes to start."""
    step_timeout_s: float
    """The same for a decision. Set it to several times what `task.action_repeat` ticks take."""
    restart_interval_s: float
    """A simulator older than this is replaced when its episode ends: engines leak memory. 0: never."""
    max_fast_resets: int
    """After this many fast resets in a row, new land is made from another seed. 0: never."""
    max_failures: int
    """The run ends when the simulator of an environment has failed this many times without a decision in between."""
    observations: dict[str, DeclaredObservation] = {}
    """What `task.callbacks` write into `obs` for the policy, besides `image`: name -> shape and dtype, for example
    `{goal: {shape: [64, 64], dtype: uint8}}`. An array that differs from this, or is absent, ends the run."""

    def declared(self) -> dict[str, TensorSpec]:
        """`observations`, as part of an `EnvSpec`."""
        return {name: TensorSpec(found.shape, found.dtype) for name, found in self.observations.items()}


EnvConfig = WorldEnvConfig | GymEnvConfig | CrafterEnvConfig | MineStudioEnvConfig | SyntheticEnvConfig | OwnEnvConfig
