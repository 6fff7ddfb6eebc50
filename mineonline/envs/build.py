"""Builds environments from settings."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mineonline.envs.contract import EnvSpec, VectorEnv
from mineonline.envs.minestudio import requirements
from mineonline.envs.settings import (
    CrafterEnvConfig,
    EnvConfig,
    GymEnvConfig,
    MineStudioEnvConfig,
    OwnEnvConfig,
    SyntheticEnvConfig,
    WorldEnvConfig,
)
from mineonline.envs.task_mix import TaskMix
from mineonline.envs.tasks import Task

log = logging.getLogger(__name__)


def check_ready(env: EnvConfig) -> None:
    """EnvError if this machine lacks what the environments need."""
    if isinstance(env, MineStudioEnvConfig):
        requirements.check(env.engine)


def prepare(env: EnvConfig, say: Callable[[str], None] = log.info) -> None:
    """Compile the environments' loops once, so that no worker has to. EnvError as for `check_ready`.

    `say` hears how far that is, if it takes long.
    """
    check_ready(env)
    if isinstance(env, WorldEnvConfig) or (isinstance(env, MineStudioEnvConfig) and env.engine == "world"):
        from mineonline.envs.world import warm_up

        log.info("loading the embedded world")
        warm_up(say)
    elif isinstance(env, CrafterEnvConfig):
        from mineonline.envs import crafter

        crafter.warm_up()


# Below, each kind of environment is imported where it is chosen: numba, gymnasium and Crafter take a second in all.


def env_spec(env: EnvConfig, task: Task | TaskMix | None) -> EnvSpec:
    """What a policy must fit. Leaves nothing running."""
    if isinstance(env, GymEnvConfig):
        from mineonline.envs.gym import gym_spec

        return gym_spec(env)
    if isinstance(env, CrafterEnvConfig):
        from mineonline.envs import crafter

        return crafter.SPEC
    if isinstance(env, OwnEnvConfig):
        from mineonline.envs import own

        return own.spec_of(env)
    if isinstance(env, SyntheticEnvConfig):
        from mineonline.envs import synthetic

        return synthetic.spec_of(env)
    assert task is not None
    if isinstance(env, MineStudioEnvConfig):
        from mineonline.envs.minestudio.env import spec_of

        return spec_of(env, task)
    from mineonline.envs.world import MixedWorlds, WorldEnv

    if isinstance(task, TaskMix):
        return MixedWorlds.spec_of(task, env.image_size)
    return WorldEnv.spec_of(task, env.image_size)


def can_stagger(env: EnvConfig) -> bool:
    """Whether `build_env` obeys `stagger`."""
    return isinstance(env, WorldEnvConfig | MineStudioEnvConfig | SyntheticEnvConfig)


def build_env(
    env: EnvConfig, task: Task | TaskMix | None, *, seed: int, num_envs: int, first_index: int, stagger: bool = True,
    own_pace: bool = False,
) -> VectorEnv:  # fmt: skip
    """`num_envs` environments; their seeds follow from `first_index`, the global index of the first.

    `stagger`: the first episode of each starts partway through its time limit, so that they do not all end together.
    `own_pace`: whoever steps them can step each at its own pace.
    """
    if isinstance(env, GymEnvConfig):
        if env.processes is True or (env.processes == "auto" and own_pace and _is_slow(env)):
            from mineonline.envs.gym_pool import GymPool

            return GymPool(env, num_envs=num_envs, seed=seed, first_index=first_index)
        from mineonline.envs.gym import GymEnv

        return GymEnv(env, num_envs=num_envs, seed=seed, first_index=first_index)
    if isinstance(env, CrafterEnvConfig):
        from mineonline.envs.crafter import CrafterEnv

        return CrafterEnv(num_envs=num_envs, length=env.time_limit_steps, seed=seed, first_index=first_index)
    if isinstance(env, OwnEnvConfig):
        from mineonline.envs import own

        return own.build(env, num_envs=num_envs, seed=seed, first_index=first_index)
    if isinstance(env, SyntheticEnvConfig):
        from mineonline.envs.synthetic import SyntheticAsyncEnv, SyntheticEnv

        made = SyntheticAsyncEnv if env.step_ms else SyntheticEnv
        return made(env, num_envs=num_envs, seed=seed, first_index=first_index, stagger=stagger)
    assert task is not None
    if isinstance(env, MineStudioEnvConfig):
        from mineonline.envs.minestudio.env import MineStudioEnv

        return MineStudioEnv(env, task, num_envs=num_envs, seed=seed, first_index=first_index, stagger=stagger)
    from mineonline.envs.world import MixedWorlds, WorldEnv

    if isinstance(task, TaskMix):
        return MixedWorlds(
            task, num_envs=num_envs, image_size=env.image_size, seed=seed, first_index=first_index, stagger=stagger
        )
    return WorldEnv(
        task, num_envs=num_envs, image_size=env.image_size, seed=seed, first_index=first_index, stagger=stagger
    )


def _is_slow(env: GymEnvConfig) -> bool:
    from mineonline.envs.gym import is_slow

    return is_slow(env)
