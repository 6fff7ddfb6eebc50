"""Which file a checkpoint is, and what it says about the policy, read without trusting it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mineonline.errors import CheckpointError

if TYPE_CHECKING:  # a second, for which a misspelt key should not wait
    from torch import Tensor, nn

    from mineonline.policies.policy import Policy

log = logging.getLogger(__name__)

LATEST = "latest"
"""Stands for the newest checkpoint where a file is asked for."""
RUNS = Path("runs")
"""Where runs are that were given no folder, from where the program is started."""

_PREFIX = "policy."


def read_policy_state(file: Path, policy: Policy, key: str = "checkpoint") -> dict[str, Tensor]:
    """The state of `policy` in a checkpoint, on the CPU, mapped from the file: what nobody touches costs nothing.

    CheckpointError with the file and the reason if it is absent, broken, or of a policy with other tensors. `key`: the
    setting that named the file.
    """
    found = _policy_state(file, key)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    if shapes != expected:
        wrong = next(name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name))
        raise CheckpointError(
            f"{key}={file} is of another policy: {wrong} is {shapes.get(wrong, 'absent')} there, but "
            f"{expected.get(wrong, 'absent')} here. Give the policy=... and env=... that it was trained with."
        )
    return found


def read_iteration(file: Path) -> int:
    """Iterations that the run of a checkpoint had done. CheckpointError as for `read_policy_state`."""
    return int(_load(file)["iteration"])


def check_resumes(file: Path, learner: nn.Module) -> None:
    """CheckpointError if the learner of a checkpoint, whose policy fits, has other parts than `learner`."""
    found, expected = set(_load(file)["state_dict"]), set(learner.state_dict())
    if any(name.startswith("reference.") for name in found ^ expected):
        has, lacks = ("has a", "has none") if found > expected else ("has no", "has one")
        raise CheckpointError(
            f"checkpoint={file} {has} reference policy, but this run {lacks}. Leave reference.kl_coef as it was, or "
            "begin a new run with init_from=<checkpoint>."
        )
    if found != expected:
        raise CheckpointError(f"checkpoint={file} is of another learner: {', '.join(sorted(found ^ expected)[:3])}.")


def find_checkpoint(given: str, run_dir: str | None, key: str = "checkpoint") -> Path:
    """The file that `checkpoint=<given>` names, wherever a checkpoint is asked for.

    A run folder names its newest checkpoint, the one of most iterations. `latest` is that of `run_dir`, or without one
    that of the run under `runs/` that saved last. A file that cannot be read is passed over with a warning. Anything
    else is a file, which is not looked at here. CheckpointError says where there was none.
    """
    folder = Path(given)
    if given == LATEST and run_dir is not None:
        folder = Path(run_dir)
    elif given != LATEST and not folder.is_dir():
        return folder
    anywhere = given == LATEST and run_dir is None
    # the id of an environment may have a slash of its own: runs/ALE/Pong-v5/<time>
    folders = [*RUNS.glob("*/*"), *RUNS.glob("*/*/*")] if anywhere else [folder]
    for run in sorted(filter(_files, folders), key=_last_saved_s, reverse=True):
        good = list(_readable(run))
        if good:
            newest = max(good)
            print(f"{key}={given}: {newest.file}, iteration {newest.iteration}", file=sys.stderr)
            return newest.file
    where = f"{RUNS.absolute()}/*/*/checkpoints" if anywhere else f"{folder}/checkpoints"
    raise CheckpointError(
        f"{key}={given}: there is no checkpoint that can be read in {where}. "
        "Give checkpoint=<file>, or a run folder; without checkpoint=... a new run begins."
    )


class _Readable(NamedTuple):
    """In the order of their age."""

    iteration: int
    is_last: bool
    file: Path


def _readable(run: Path) -> Iterator[_Readable]:
    for file in _files(run):
        try:
            yield _Readable(read_iteration(file), file.name == "last.ckpt", file)
        except CheckpointError as error:
            log.warning("passed over: %s", error)


def _files(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.ckpt"))


def _last_saved_s(run: Path) -> float:
    return max(file.stat().st_mtime for file in _files(run))


def _load(file: Path, key: str = "checkpoint") -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f"{key}={file}: there is no such file.")
    import torch

    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise CheckpointError(f"{key}={file}: cannot be read ({error.strerror}).") from None
    except Exception:  # noqa: BLE001 torch raises many kinds for a file that is not what it should be
        # torch's texts propose to load it without weights_only, which would run what the file says
        size = file.stat().st_size
        raise CheckpointError(
            f"{key}={file}: cannot be read; its {size} bytes are a truncated checkpoint, or none of mineonline's."
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or f"{_PREFIX}version" not in state or "iteration" not in checkpoint:
        raise CheckpointError(f"{key}={file}: cannot be read; it holds no policy, so mineonline did not write it.")
    assert isinstance(checkpoint, dict)
    return checkpoint


def _policy_state(file: Path, key: str) -> dict[str, Tensor]:
    state = _load(file, key)["state_dict"]
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
