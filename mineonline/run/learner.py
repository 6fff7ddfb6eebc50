"""Builds the learner from the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from mineonline.envs.contract import EnvSpec
from mineonline.errors import ConfigError
from mineonline.experience.fragment_files import RecordedFragments
from mineonline.learning.cloning import Cloning
from mineonline.learning.module import PPO
from mineonline.policies.build import build_policy, load_policy_weights
from mineonline.policies.policy import Policy
from mineonline.run.checkpoint import find_checkpoint, read_policy_state
from mineonline.run.folder import label_of
from mineonline.settings.config import Config


def build_learner(
    config: Config, spec: EnvSpec, *, bad_batch_file: Path, learner_class: Callable[..., PPO] = PPO
) -> PPO:
    """The learner at iteration 0. CheckpointError or ConfigError if a file that the settings name cannot be used.

    A resumed run does not read these files: its checkpoint holds everything.
    """
    policy = build_policy(config, spec)
    resumes = config.checkpoint is not None
    if not resumes:
        if config.objective.normalize_value:
            policy.value.forget_scale()
        load_policy_weights(policy, config)
    if config.init_from is not None and not resumes:
        _load(policy, config.init_from, "init_from")
    reference = None
    if config.reference.kl_coef:
        reference = build_policy(config, spec)
        reference.load_state_dict(policy.state_dict())
        if config.reference.checkpoint is not None and not resumes:
            _load(reference, config.reference.checkpoint, "reference.checkpoint")
    return learner_class(
        policy, reference,
        objective=config.objective, optimizer=config.optimizer, auxiliary=config.auxiliary,
        reference_settings=config.reference, cloning=_cloning(config, spec),
        iterations=config.iterations, seed=config.seed, bad_batch_file=bad_batch_file,
    )  # fmt: skip


def _load(policy: Policy, checkpoint: str, key: str) -> None:
    policy.load_state_dict(read_policy_state(find_checkpoint(checkpoint, None, key), policy, key))
    policy.version.zero_()


def _cloning(config: Config, spec: EnvSpec) -> Cloning | None:
    if config.offline.folder is None:
        return None
    recorded = RecordedFragments(Path(config.offline.folder))
    recorded.check_fits(spec)
    played = label_of(msgspec.to_builtins(config))
    if config.tasks and recorded.envs != (played,):
        raise ConfigError(
            f"offline.folder={config.offline.folder}: recorded on {', '.join(recorded.envs)}, but this run plays "
            f"{played}: an index would be another task there. Record new ones with a checkpoint of these tasks."
        )
    return Cloning(recorded, coef=config.offline.coef, fragments=config.offline.fragments)
