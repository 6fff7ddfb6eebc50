"""What a checkpoint file says about the policy, read without trusting the file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mineonline.errors import CheckpointError
from mineonline.policies.policy import Policy

_PREFIX = "policy."


def read_iteration(file: Path) -> int:
    """Iterations that the run of a checkpoint, which `read_policy_state` could read, had done."""
    return int(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["iteration"])


def read_policy_state(file: Path, policy: Policy) -> dict[str, Tensor]:
    """The state of `policy` in a checkpoint, on the CPU, mapped from the file: leaves that nobody touches cost nothing.

    CheckpointError with the file and the reason if it is absent, broken, or of a policy with other tensors.
    """
    if not file.is_file():
        raise CheckpointError(f"checkpoint={file}: there is no such file.")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        found = {name.removeprefix(_PREFIX): leaf for name, leaf in state.items() if name.startswith(_PREFIX)}
        shapes = {name: tuple(leaf.shape) for name, leaf in found.items()}
    except Exception as error:  # noqa: BLE001 torch raises many kinds for a file that is not what it should be
        raise CheckpointError(f"checkpoint={file}: cannot be read ({type(error).__name__}: {error}).") from None
    expected = {name: tuple(leaf.shape) for name, leaf in policy.state_dict().items()}
    if shapes != expected:
        wrong = next(name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name))
        raise CheckpointError(
            f"checkpoint={file} is of another policy: {wrong} is {shapes.get(wrong, 'absent')} there, but "
            f"{expected.get(wrong, 'absent')} here. Give the policy=... and env=... that it was trained with."
        )
    return found
