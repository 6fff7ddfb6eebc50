"""A trained policy and what it plays, for commands and for programs of the user's."""

from __future__ import annotations

import os
from pathlib import Path

from mineonline.envs.build import build_env, env_spec, prepare
from mineonline.envs.contract import EnvSpec, VectorEnv
from mineonline.policies.build import build_policy
from mineonline.policies.policy import Policy
from mineonline.run.checkpoint import find_checkpoint, read_policy_state
from mineonline.run.folder import read_config
from mineonline.settings.config import Config


def load_policy(checkpoint: str | os.PathLike[str]) -> tuple[Policy, Config]:
    """The policy of a checkpoint, and the settings that it was trained with (`mineonline.settings.config`).

    `checkpoint`: a file, a run folder (its newest checkpoint), a published folder, `latest` (of the run under `runs/`
    that saved last) or `demo`. The policy is on the CPU, in evaluation mode. CheckpointError or ConfigError says what
    is missing or broken.
    """
    file = find_checkpoint(str(checkpoint), None)
    config = read_config(file)
    return read_policy(file, config).eval(), config


def make_env(config: Config, *, num_envs: int = 1, seed: int | None = None) -> VectorEnv:
    """The environments that a run with these settings plays, each episode with its full time limit.

    Their seeds follow from `seed`; None: the run's. EnvError if an environment cannot be made.
    """
    prepare(config.env)
    chosen = config.seed if seed is None else seed
    return build_env(config.env, config.played, seed=chosen, num_envs=num_envs, first_index=0, stagger=False)


def read_policy(checkpoint: Path, config: Config, spec: EnvSpec | None = None) -> Policy:
    """The policy in a checkpoint's file. CheckpointError if it is not the one that `config` describes.

    `spec`: of its environments, if it is known already; to find out, some environments must be made once.
    """
    policy = build_policy(config, spec or env_spec(config.env, config.played))
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    return policy
