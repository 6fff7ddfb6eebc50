"""Writes a checkpoint's policy as the two files that MineStudio reads, and checks that they are still as written.

A `.weights` file has the checksums of torch's files. A `.model` file, a pickle, ends with a line `crc32 <8 hex digits>`
behind what pickle reads.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from mineonline.envs.build import env_spec
from mineonline.errors import CheckpointError, ConfigError
from mineonline.policies.build import build_policy
from mineonline.policies.vpt import VptPolicy
from mineonline.policies.vpt_files import write_model, write_weights
from mineonline.run.checkpoint import check_intact, find_checkpoint, read_iteration, read_policy_state
from mineonline.run.folder import read_config
from mineonline.settings.arguments import ExportArguments
from mineonline.settings.config import PolicyConfig, VptPolicyConfig

_CHECKSUM = re.compile(rb"crc32 ([0-9a-f]{8})\n\Z")


def export(arguments: ExportArguments) -> None:
    """Write both files. ConfigError if the checkpoint's policy is not MineStudio's VPT, or a file cannot be written."""
    checkpoint = find_checkpoint(arguments.checkpoint, None)
    config = read_config(checkpoint)
    policy = build_policy(config, env_spec(config.env, config.played))
    if not isinstance(policy, VptPolicy):
        kind = msgspec.to_builtins(config.policy)["kind"]
        raise ConfigError(f"checkpoint={checkpoint} was trained with policy={kind}: MineStudio has no such network.")
    policy.load_state_dict(read_policy_state(checkpoint, policy))
    _write(Path(arguments.model), lambda file: _write_model(file, policy))
    _write(Path(arguments.weights), lambda file: write_weights(file, policy))
    print(f"{checkpoint}, iteration {read_iteration(checkpoint)}: written to {arguments.model} and {arguments.weights}")


def check_exported(policy: PolicyConfig) -> None:
    """CheckpointError if a file that the settings name is damaged.

    Absent files pass, and MineStudio's own `.model` files, which have no checksum.
    """
    if not isinstance(policy, VptPolicyConfig):
        return
    if policy.model is not None and (file := Path(policy.model)).is_file():
        content = file.read_bytes()
        end = _CHECKSUM.search(content)
        if end is not None and end[1] != _crc32(content[: end.start()]):
            raise CheckpointError(
                f"policy.model={file} is damaged: its content does not match its checksum. Export it again, or leave "
                "it out and set policy.size."
            )
    if policy.weights is not None and (file := Path(policy.weights)).is_file():
        check_intact(file, f"policy.weights={file}")


def _write_model(file: Path, policy: VptPolicy) -> None:
    write_model(file, policy.arguments, policy.head.temperature)
    with file.open("ab") as end:
        end.write(b"crc32 " + _crc32(file.read_bytes()) + b"\n")


def _crc32(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)


def _write(file: Path, write: Callable[[Path], None]) -> None:
    """In a folder next to it first, so that `file` is whole or absent. ConfigError if it cannot be written."""
    parent = file.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{file.name}.") as folder:
            partial = Path(folder) / file.name
            write(partial)
            partial.replace(file)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError for a full disk
        reason = error.strerror if isinstance(error, OSError) else "is the disk full?"
        raise ConfigError(f"{file}: cannot be written ({reason}).") from None
