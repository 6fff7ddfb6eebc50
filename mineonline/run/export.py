"""Writes a checkpoint's policy as the two files that MineStudio reads."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mineonline.envs.build import env_spec
from mineonline.errors import ConfigError
from mineonline.policies.build import build_policy
from mineonline.policies.vpt import VptPolicy
from mineonline.policies.vpt_files import write_model, write_weights
from mineonline.run.checkpoint import find_checkpoint, read_iteration, read_policy_state
from mineonline.run.folder import read_config
from mineonline.settings.arguments import ExportArguments


def export(arguments: ExportArguments) -> None:
    """Write both files. ConfigError if the checkpoint's policy is not MineStudio's VPT."""
    checkpoint = find_checkpoint(arguments.checkpoint, None)
    config = read_config(checkpoint)
    policy = build_policy(config, env_spec(config.env, config.task))
    if not isinstance(policy, VptPolicy):
        kind = msgspec.to_builtins(config.policy)["kind"]
        raise ConfigError(f"checkpoint={checkpoint} was trained with policy={kind}: MineStudio has no such network.")
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    write_model(Path(arguments.model), policy.arguments, policy.head.temperature)
    write_weights(Path(arguments.weights), policy)
    print(f"{checkpoint}, iteration {read_iteration(checkpoint)}: written to {arguments.model} and {arguments.weights}")
