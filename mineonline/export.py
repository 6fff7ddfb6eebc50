"""Entry point: `python -m mineonline.export checkpoint=<file> model=<file> weights=<file>` goes back to MineStudio.

Writes the `.model` and the `.weights` file of a policy that was trained with policy=vpt, for MineStudio's
`load_vpt_policy(model, weights)`: the same logits, and the same values in units of reward.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from mineonline.checkpoint_file import find_checkpoint, read_iteration, read_policy_state
from mineonline.command_line import report_errors
from mineonline.envs.build import env_spec
from mineonline.errors import ConfigError
from mineonline.policies.build import build_policy
from mineonline.policies.vpt import VptPolicy
from mineonline.policies.vpt_files import write_model, write_weights
from mineonline.run_folder import read_config

USAGE = "usage: python -m mineonline.export checkpoint=<file> model=<new .model file> weights=<new .weights file>"


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must stand on the command line, each as key=value."""

    checkpoint: str
    """File with the weights, its run folder, or `latest`."""
    model: str
    """Where the network's arguments go; replaced if it exists."""
    weights: str
    """Where the weights go; replaced if it exists."""


def main() -> None:
    """Export what the command line names."""
    words = dict(word.partition("=")[::2] for word in sys.argv[1:])
    try:
        arguments = msgspec.convert(words, Arguments)
    except msgspec.ValidationError:
        raise ConfigError(USAGE) from None
    export(arguments)


def export(arguments: Arguments) -> None:
    """Write both files. ConfigError if the checkpoint's policy is not MineStudio's."""
    checkpoint = find_checkpoint(arguments.checkpoint, None)
    config = read_config(checkpoint)
    policy = build_policy(config, env_spec(config))
    if not isinstance(policy, VptPolicy):
        kind = msgspec.to_builtins(config.policy)["kind"]
        raise ConfigError(f"checkpoint={checkpoint} was trained with policy={kind}: MineStudio has no such network.")
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    write_model(Path(arguments.model), policy.arguments, policy.head.temperature)
    write_weights(Path(arguments.weights), policy)
    print(f"{checkpoint}, iteration {read_iteration(checkpoint)}: written to {arguments.model} and {arguments.weights}")


if __name__ == "__main__":
    report_errors(main)
