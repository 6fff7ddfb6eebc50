"""Finds checkpoint files, and reads them without trusting their content."""

from __future__ import annotations

import functools
import logging
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mineonline.errors import CheckpointError
from mineonline.run import safetensors_files
from mineonline.run.folder import DEMO, PUBLISHED_FILE, is_published, no_such_file

if TYPE_CHECKING:  # importing torch takes a second: a misspelt key should not wait for it
    from torch import Tensor, nn

    from mineonline.policies.policy import Policy

log = logging.getLogger(__name__)

LATEST = "latest"
"""Means the newest checkpoint, wherever a file can be given."""
DEMO_FOLDER = Path(__file__).parent.parent / "demo"
RUNS = Path("runs")
"""Where runs without a `run_dir` go, relative to the working directory."""

_PREFIX = "policy."
_DOS_FOLDER = 0x10


def read_policy_state(file: Path, policy: Policy, key: str = "checkpoint") -> dict[str, Tensor]:
    """The state of `policy` in a checkpoint: on the CPU, mapped from the file, so unused tensors are not read.

    CheckpointError, with the file and the reason, if it is missing, broken, or of a policy with other tensors. `key`:
    the setting that named the file.
    """
    found = _policy_state(file, key)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    expected = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    if shapes != expected:
        wrong = next(name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name))
        raise CheckpointError(
            f"{key}={file} is of another policy: {wrong} is {shapes.get(wrong, 'absent')} in the file, but "
            f"{expected.get(wrong, 'absent')} in this run. Give the policy=..., policy.* and env=... that it was "
            "trained with."
        )
    return found


def read_iteration(file: Path) -> int:
    """Iterations done when the checkpoint was saved. CheckpointError if the file is missing or broken."""
    return int(_load(file)["iteration"])


def check_intact(file: Path, said: str) -> None:
    """CheckpointError if the content of a file that torch wrote is not what was written; `said` names the file.

    Such a file is a zip archive with a CRC-32 of each tensor, which torch itself does not check. Reads all of it, at
    about 3 GB/s. A file of torch's older format, which has no checksums, passes. A published policy has one of its own.
    """
    if not _is_intact(file, file.stat().st_size, file.stat().st_mtime_ns):
        raise CheckpointError(
            f"{said} is damaged: its content does not match its checksums. Give another file, for example an earlier "
            "checkpoint; a run folder stands for its newest good one."
        )


@functools.lru_cache(maxsize=32)  # a command reads the same checkpoint several times
def _is_intact(file: Path, size: int, modified_ns: int) -> bool:
    if is_published(file):
        return safetensors_files.is_intact(file)
    try:
        if not zipfile.is_zipfile(file):
            return True
        with zipfile.ZipFile(file) as archive:
            # torch takes what is marked as a folder as empty, and leaves the tensor as it was in memory
            folders = any(entry.external_attr & _DOS_FOLDER for entry in archive.infolist())
            return not folders and archive.testzip() is None
    except Exception:  # noqa: BLE001 zipfile raises many kinds of errors for a header that makes no sense
        return False


def check_resumes(file: Path, learner: nn.Module) -> None:
    """CheckpointError if the checkpoint's learner has other parts than `learner`. The policy must fit already."""
    found, expected = set(_load(file)["state_dict"]), set(learner.state_dict())
    if any(name.startswith("reference.") for name in found ^ expected):
        has, lacks = ("has a", "has none") if found > expected else ("has no", "has one")
        raise CheckpointError(
            f"checkpoint={file} {has} reference policy, but this run {lacks}. Leave reference.kl_coef as it was, or "
            "start a new run with init_from=<checkpoint>."
        )
    if found != expected:
        raise CheckpointError(f"checkpoint={file} is of another learner: {', '.join(sorted(found ^ expected)[:3])}.")


def find_checkpoint(given: str, run_dir: str | None, key: str = "checkpoint") -> Path:
    """The file that `<key>=<given>` names.

    A run folder stands for its newest checkpoint, the one with the most iterations, a published folder for its policy,
    and `demo` for the one that comes with mineonline. `latest` stands for the newest of `run_dir`, or without `run_dir`
    for that of the run under `runs/` that saved last. Files that are broken are skipped with a warning. Anything else
    is taken as a file, which is not opened here. CheckpointError says where none was found.
    """
    folder = DEMO_FOLDER if given == DEMO else Path(given)
    if (folder / PUBLISHED_FILE).is_file():
        return folder / PUBLISHED_FILE
    if given == LATEST and run_dir is not None:
        folder = Path(run_dir)
    elif given != LATEST and not folder.is_dir():
        return folder
    anywhere = given == LATEST and run_dir is None
    # the id of an environment may contain a slash: runs/ALE/Pong-v5/<time>
    folders = [*RUNS.glob("*/*"), *RUNS.glob("*/*/*")] if anywhere else [folder]
    for run in sorted(filter(_files, folders), key=_last_saved_s, reverse=True):
        newest = _newest_good(run)
        if newest is not None:
            print(f"{key}={given}: {newest.file}, iteration {newest.iteration}", file=sys.stderr)
            return newest.file
    where = f"{RUNS.absolute()}/*/*/checkpoints" if anywhere else f"{folder}/checkpoints"
    raise CheckpointError(
        f"{key}={given}: there is no checkpoint that can be read in {where}. "
        "Give a checkpoint's file, or a run folder that has one."
    )


class _Readable(NamedTuple):
    """Compares by age: the newer checkpoint is the larger one."""

    iteration: int
    is_last: bool
    file: Path


def _newest_good(run: Path) -> _Readable | None:
    found = []
    for file in _files(run):
        try:
            found.append(_Readable(int(_open(file)["iteration"]), file.name == "last.ckpt", file))
        except CheckpointError as error:
            log.warning("skipped: %s", error)
    for newest in sorted(found, reverse=True):
        try:
            check_intact(newest.file, f"checkpoint={newest.file}")
            return newest
        except CheckpointError as error:
            log.warning("skipped: %s", error)
    return None


def _files(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.ckpt"))


def _last_saved_s(run: Path) -> float:
    return max(file.stat().st_mtime for file in _files(run))


def _load(file: Path, key: str = "checkpoint") -> dict[str, Any]:
    checkpoint = _open(file, key)
    check_intact(file, f"{key}={file}")
    return checkpoint


def _open(file: Path, key: str = "checkpoint") -> dict[str, Any]:
    """Without a look at its checksums."""
    if not file.is_file():
        raise no_such_file(key, file)
    if is_published(file):
        return _open_published(file, key)
    import torch

    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise CheckpointError(f"{key}={file}: cannot be read ({error.strerror}).") from None
    except Exception:  # noqa: BLE001 torch raises many kinds of errors for a bad file
        # torch's own text suggests loading without weights_only, which would run code from the file
        size = file.stat().st_size
        raise CheckpointError(
            f"{key}={file}: cannot be read; its {size} bytes are a truncated or damaged checkpoint, or not one of "
            "mineonline's."
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or f"{_PREFIX}version" not in state or "iteration" not in checkpoint:
        raise CheckpointError(f"{key}={file}: cannot be read; it holds no policy, so mineonline did not write it.")
    assert isinstance(checkpoint, dict)
    return checkpoint


def _open_published(file: Path, key: str) -> dict[str, Any]:
    found = safetensors_files.read(file)
    if found is None or not found.facts.get("iteration", "").isdecimal():
        raise CheckpointError(f"{key}={file}: cannot be read; it is damaged, or mineonline.publish did not write it.")
    state = {f"{_PREFIX}{name}": tensor for name, tensor in found.tensors.items()}
    return {"state_dict": state, "iteration": int(found.facts["iteration"])}


def _policy_state(file: Path, key: str) -> dict[str, Tensor]:
    state = _load(file, key)["state_dict"]
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
