"""The folder that holds everything a run writes.

config.yaml  overrides.yaml  code.yaml  metrics.csv  curve.png  status.json  checkpoints/last.ckpt
logs/<process>.log  videos/  join  relays/  keys.json  done  lock  loggers.yaml  wandb_id
"""

from __future__ import annotations

import csv
import errno
import fcntl
import logging
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from mineonline.atomic import new_folder, written_whole
from mineonline.errors import CheckpointError, ConfigError
from mineonline.processes.join import DONE_FILE
from mineonline.processes.launchers import is_rank_zero
from mineonline.processes.lifetimes import RUN_DIR_VARIABLE, is_shown
from mineonline.processes.logs import logging_to_file
from mineonline.run.code_version import code_version
from mineonline.settings.config import Config
from mineonline.settings.parsing import parse_config, why_unreadable

log = logging.getLogger(__name__)

DEMO = "demo"
"""Means the trained policy that comes with mineonline, wherever a checkpoint can be given."""
CONFIG_FILE = "config.yaml"
OVERRIDES_FILE = "overrides.yaml"
METRICS_FILE = "metrics.csv"
CODE_FILE = "code.yaml"
LOGGERS_FILE = "loggers.yaml"
CURVE_FILE = "curve.png"
PUBLISHED_FILE = "model.safetensors"
"""The weights in a folder that `mineonline.publish` has written; its settings are in `config.yaml`."""
WANDB_ID_FILE = "wandb_id"
LOCK_FILE = "lock"
_LEASE_S = 120.0
_LONGEST_LABEL = 100
"""Characters of a folder's name."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def choose_run_dir(settings: Mapping[str, Any]) -> Path | None:
    """The absolute folder of a run: `run_dir`, that of `checkpoint`, or a new one, made here, under `runs/<task>`.

    Once chosen, it is in the environment variables of this process and of the ranks that it starts. None in another
    rank that must ask rank 0 which new folder that is.
    """
    if is_shown():
        return Path(os.environ[RUN_DIR_VARIABLE])
    if settings["run_dir"] is not None:
        return Path(settings["run_dir"]).absolute()
    if settings["checkpoint"] is not None:
        return run_dir_of(Path(settings["checkpoint"]))
    if not is_rank_zero():
        return None
    with explained(Path("runs").absolute()):
        return new_folder(
            Path("runs", label_of(settings)[:_LONGEST_LABEL], time.strftime("%Y-%m-%d_%H-%M-%S")).absolute()
        )


def label_of(settings: Mapping[str, Any]) -> str:
    """What is played, in one word: the task, or all tasks, or the environment if it has a task of its own."""
    env = settings["env"]
    if env["kind"] in ("world", "minestudio"):
        return "+".join(sorted(settings["tasks"])) if settings.get("tasks") else str(settings["task"]["name"])
    return str(env["id"] if env["kind"] == "gym" else env["_target_"] if env["kind"] == "own" else env["kind"])


def run_dir_of(checkpoint: Path) -> Path:
    """The run folder, or published folder, that a checkpoint is in. CheckpointError if there is no such file."""
    if not checkpoint.is_file():
        raise no_such_file("checkpoint", checkpoint)
    return checkpoint.absolute().parent if is_published(checkpoint) else checkpoint.absolute().parent.parent


def no_such_file(key: str, file: Path) -> CheckpointError:
    """For `<key>=<file>`."""
    return CheckpointError(
        f"{key}={file}: there is no such file. Give a checkpoint, a run folder, latest for the run that saved last, or "
        f"{DEMO} for the trained policy that comes with mineonline."
    )


def is_published(checkpoint: Path) -> bool:
    """Whether the file holds a policy as `mineonline.publish` writes it, and not all that a run goes on from."""
    return checkpoint.suffix == Path(PUBLISHED_FILE).suffix


def read_config(checkpoint: Path, file: Path | None = None) -> Config:
    """The settings of the checkpoint's run, or those in `file`. MineonlineError names what is missing or wrong."""
    if file is None:
        file = run_dir_of(checkpoint) / CONFIG_FILE
        if not file.is_file():
            raise ConfigError(
                f"checkpoint={checkpoint}: there is no {file} to say what is played. Leave the checkpoint in its run "
                "folder; mineonline.evaluate also takes config=<file>."
            )
    try:
        return parse_config(read_settings(file))
    except ConfigError as error:
        raise ConfigError(
            f"{file}: {error} Perhaps another version of mineonline has written it. Change the file, or install that "
            "version."
        ) from None


def saved_settings(checkpoint: Path) -> dict[str, Any] | None:
    """The settings of the checkpoint's run as they were saved, unchecked; None if it has no `config.yaml`.

    ConfigError if that cannot be read.
    """
    file = run_dir_of(checkpoint) / CONFIG_FILE
    return read_settings(file) if file.is_file() else None


def saved_overrides(checkpoint: Path) -> list[str]:
    """The command line that started the checkpoint's run, so that it continues with the same settings.

    ConfigError if the file that holds it cannot be read.
    """
    file = run_dir_of(checkpoint) / OVERRIDES_FILE
    saved = _read_yaml(file) if file.exists() else []
    if not isinstance(saved, list) or not all(isinstance(override, str) for override in saved):
        raise ConfigError(f"{file}: must be a list of key=value words. Repair it, or delete it and type them again.")
    # a resumed run uses the checkpoint's folder, whatever was typed at its start
    return [override for override in saved if not override.startswith(("run_dir=", "checkpoint="))]


def read_metrics(file: Path) -> list[dict[str, str]]:
    """The rows of a metrics file: column -> text."""
    with file.open(newline="") as source:
        return list(csv.DictReader(source))


def read_settings(file: Path) -> dict[str, Any]:
    """What a `config.yaml` holds, unchecked. ConfigError if it cannot be read."""
    data = _read_yaml(file)
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: holds no settings.")
    return data


def _read_yaml(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({why_unreadable(error)}). Repair it, or delete it if you can do without."
        ) from None


def lock_run_dir(stack: ExitStack, folder: Path) -> None:
    """Make the folder, and keep other trainers out of it until `stack` closes or this process ends in any way.

    ConfigError if a trainer is there. For one on another machine, this waits 120 s: a file server notices only after a
    while that a machine has died. Where the file system has no locks, nothing happens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # a lock of the process: forks do not inherit it
    file = stack.enter_context((folder / LOCK_FILE).open("a+"))
    deadline: float | None = None
    began = time.monotonic()
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno in _NO_LOCKS:
                log.warning("%s: the file system has no locks; a second trainer would not be noticed.", folder)
                return
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        file.seek(0)
        host, _, pid = file.read().partition(" ")
        if not host and time.monotonic() < began + 5.0:  # whoever has the lock is about to write who it is
            time.sleep(0.2)
            continue
        if deadline is None:
            deadline = time.monotonic() + (0.0 if host == socket.gethostname() else _LEASE_S)
            if time.monotonic() < deadline:
                print(f"run_dir={folder}: waiting {_LEASE_S:.0f} s for the trainer on {host} to end",
                      file=sys.stderr, flush=True)  # fmt: skip
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"run_dir={folder}: a trainer is running there (process {pid} on {host}). Stop it first, or give "
                "another run_dir."
            )
        time.sleep(0.5)
    file.truncate(0)
    file.write(f"{socket.gethostname()} {os.getpid()}")
    file.flush()


def check_run_dir(config: Config) -> None:
    """ConfigError if the folder that `run_dir` names cannot be written, or holds a run that is not resumed."""
    if config.run_dir is None or is_shown():
        return
    folder = Path(config.run_dir).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise ConfigError(
            f"run_dir={config.run_dir}: {there} cannot be written ({error.strerror}). Give a folder that can."
        ) from None
    if not _is_locked(folder):  # if it is, the error that names the trainer there comes soon
        _check_free(folder, config.checkpoint)


def _is_locked(folder: Path) -> bool:
    """Whether a trainer is in the folder now."""
    try:
        with (folder / LOCK_FILE).open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


def _check_free(folder: Path, checkpoint: str | None) -> bool:
    """Whether the folder is that of the run that is resumed. ConfigError if it holds another run."""
    ours = checkpoint is not None and run_dir_of(Path(checkpoint)) == folder
    if (folder / METRICS_FILE).exists() and not ours:
        last = folder / "checkpoints" / "last.ckpt"
        cure = f"checkpoint={last} to continue it" if last.exists() else "delete it"
        raise ConfigError(f"run_dir={folder} already holds a run. Give another run_dir, or {cure}.")
    return ours


def create_run_dir(folder: Path, config: dict[str, object], overrides: list[str], checkpoint: str | None) -> None:
    """Create the folder and write its configuration.

    ConfigError if it holds a run other than the one resumed; OSError if it cannot be written.
    """
    ours = _check_free(folder, checkpoint)
    for name in ("checkpoints", "logs", "videos"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / DONE_FILE).unlink(missing_ok=True)
    if not ours:
        for name in (WANDB_ID_FILE, LOGGERS_FILE):
            (folder / name).unlink(missing_ok=True)
    for partial in (folder / "checkpoints").glob(".*.ckpt.*"):  # of a trainer that was killed while it saved
        partial.unlink(missing_ok=True)
    _write_yaml(folder / CONFIG_FILE, config)
    _write_yaml(folder / OVERRIDES_FILE, overrides)
    _write_yaml(folder / CODE_FILE, code_version())


def enter_run_dir(stack: ExitStack, run_dir: Path, rank: int) -> None:
    """From now on this rank's log and errors are about `run_dir`, until `stack` closes."""
    stack.enter_context(explained(run_dir))
    os.environ[RUN_DIR_VARIABLE] = str(run_dir)
    stack.enter_context(logging_to_file(run_dir / "logs" / f"trainer-{rank}.log"))


@contextmanager
def explained(run_dir: Path) -> Iterator[None]:
    """Turns the errors of a full disk, and of files in `run_dir`, into a ConfigError that names the file."""
    try:
        yield
    except OSError as error:
        file = error.filename
        inside = isinstance(file, str) and Path(file).is_relative_to(run_dir)
        if not inside and error.errno not in _NO_ROOM:
            raise
        raise ConfigError(
            f"{file if inside else run_dir}: cannot be used ({error.strerror}). A run needs a folder that can be "
            "written, on a disk with room: run_dir=<folder>."
        ) from None


def _write_yaml(file: Path, data: object) -> None:
    with written_whole(file) as partial:
        partial.write_text(yaml.safe_dump(data, sort_keys=False))


def wandb_id(folder: Path) -> str:
    """The id of the folder's run at Weights & Biases: made once, so that a resumed run continues under the same id."""
    file = folder / WANDB_ID_FILE
    if not file.exists():
        with written_whole(file) as partial:
            partial.write_text(secrets.token_hex(8))
    return file.read_text()
