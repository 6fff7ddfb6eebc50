"""From the configuration to an environment."""

from __future__ import annotations

import logging

from mineonline.config import Config, CrafterEnvConfig, GymEnvConfig, MineStudioEnvConfig, WorldEnvConfig
from mineonline.envs.contract import EnvSpec, VectorEnv
from mineonline.envs.gym import GymEnv, gym_spec
from mineonline.envs.minestudio import requirements
from mineonline.envs.minestudio.env import MineStudioEnv, spec_of

log = logging.getLogger(__name__)


def check_ready(config: Config) -> None:
    """EnvError if this machine lacks what the environments need."""
    if isinstance(config.env, MineStudioEnvConfig):
        requirements.check(config.env.engine)


def prepare(config: Config) -> None:
    """Do once what every process would otherwise do by itself when it builds an environment: compile its loops.

    EnvError if this machine lacks what the environments need.
    """
    check_ready(config)
    if isinstance(config.env, WorldEnvConfig) or (
        isinstance(config.env, MineStudioEnvConfig) and config.env.engine == "world"
    ):
        from mineonline.envs.world import warm_up

        log.info("loading the world (the first time on a machine it is compiled: a minute)")
        warm_up()
    elif isinstance(config.env, CrafterEnvConfig):
        from mineonline.envs import crafter

        crafter.warm_up()


def env_spec(config: Config) -> EnvSpec:
    """What the policy must fit, without starting anything that lasts."""
    if isinstance(config.env, GymEnvConfig):
        return gym_spec(config.env.id, config.env.kwargs)
    if isinstance(config.env, CrafterEnvConfig):
        from mineonline.envs import crafter  # a package that only its users install

        return crafter.SPEC
    assert config.task is not None
    if isinstance(config.env, MineStudioEnvConfig):
        return spec_of(config.env, config.task)
    from mineonline.envs.world import WorldEnv  # numba: half a second that gym does not need

    return WorldEnv.spec_of(config.task, config.env.image_size)


def is_staggered(config: Config) -> bool:
    """Whether `build_env` begins the first episode of each environment in the middle of its time limit."""
    return isinstance(config.env, WorldEnvConfig | MineStudioEnvConfig)


def build_env(config: Config, *, num_envs: int, first_index: int) -> VectorEnv:
    """`num_envs` environments; `first_index` is the global index of the first, which decides their seeds."""
    if isinstance(config.env, GymEnvConfig):
        return GymEnv(config.env.id, config.env.kwargs, num_envs=num_envs, seed=config.seed, first_index=first_index)
    if isinstance(config.env, CrafterEnvConfig):
        from mineonline.envs.crafter import CrafterEnv

        return CrafterEnv(
            num_envs=num_envs, length=config.env.time_limit_steps, seed=config.seed, first_index=first_index
        )
    assert config.task is not None
    if isinstance(config.env, MineStudioEnvConfig):
        return MineStudioEnv(
            config.env, config.task, num_envs=num_envs, seed=config.seed, first_index=first_index, stagger=True
        )
    from mineonline.envs.world import WorldEnv

    return WorldEnv(
        config.task, num_envs=num_envs, image_size=config.env.image_size, seed=config.seed, first_index=first_index,
        stagger=True,
    )  # fmt: skip
