"""From the configuration to a learner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mineonline.checkpoint_file import read_policy_state
from mineonline.config import Config
from mineonline.envs.contract import EnvSpec
from mineonline.learning.module import PPO
from mineonline.policies.build import build_policy
from mineonline.policies.policy import Policy


def build_learner(config: Config, spec: EnvSpec, *, bad_batch_file: Path, kind: Callable[..., PPO] = PPO) -> PPO:
    """The learner at iteration 0. CheckpointError if `init_from` or `reference.checkpoint` cannot be used.

    Of a run that resumes these files are not read: its checkpoint holds everything.
    """
    policy = build_policy(config, spec)
    resumes = config.checkpoint is not None
    if config.init_from is not None and not resumes:
        _load(policy, config.init_from)
    reference = None
    if config.reference.kl_coef:
        reference = build_policy(config, spec)
        reference.load_state_dict(policy.state_dict())
        if config.reference.checkpoint is not None and not resumes:
            _load(reference, config.reference.checkpoint)
    return kind(
        policy, reference,
        objective=config.objective, optimizer=config.optimizer, reference_settings=config.reference, cloning=None,
        iterations=config.iterations, seed=config.seed, bad_batch_file=bad_batch_file,
    )  # fmt: skip


def _load(policy: Policy, checkpoint: str) -> None:
    policy.load_state_dict(read_policy_state(Path(checkpoint), policy))
    policy.version.zero_()
