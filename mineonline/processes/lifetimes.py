"""Child processes end with their parents, and leave nothing behind."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.util import Finalize
from pathlib import Path

RUN_DIR_VARIABLE = "MINEONLINE_RUN_DIR"
"""In the environment of every process of a run, so that an operator can find them."""
PARENT_VARIABLE = "MINEONLINE_PARENT"
"""Process id of the trainer, in the environment of the processes that it starts."""

HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""That `stopping` handles in every command."""
_SHOWN_BY_VARIABLE = "MINEONLINE_SHOWN_BY"
_PR_SET_PDEATHSIG = 1
_OWNER = f".owner-{socket.gethostname()}"
"""Name of a file in every `TemporaryFolder` of this machine, locked as long as its owner lives."""
_JUST_MADE_S = 60.0
"""A folder this young may not be locked yet."""
_LONGEST_FOLDER = 40
"""Bytes: multiprocessing adds 62 to it (`/mineonline-collector-12345678/pymp-12345678/listener-12345678`)."""


def show_run_dir(run_dir: Path, module: str, words: Sequence[str]) -> None:
    """Make this process's own environment name the run, by re-executing it once as `python -m module *words`.

    A process can change the environment that its children inherit, but not the one that the system shows for itself.
    Call it early.
    """
    if not is_shown():
        os.environ[RUN_DIR_VARIABLE] = str(run_dir)
        os.environ[_SHOWN_BY_VARIABLE] = str(os.getpid())
        # until the handlers are set again: they would end it without a word
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        os.execv(sys.executable, [sys.executable, "-m", module, *words])


def is_shown() -> bool:
    """Whether the environment names the run of this process, rather than one inherited from further up."""
    shown_by = os.environ.get(_SHOWN_BY_VARIABLE)
    return shown_by is not None and int(shown_by) in (os.getpid(), os.getppid())


def parent_trainer() -> int | None:
    """Process id of the trainer that started this process, or None if a user did."""
    parent = os.environ.get(PARENT_VARIABLE)
    return int(parent) if parent else None


def die_with_parent(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `how` to this process when `parent`, which started it, ends in any way.

    Linux only; elsewhere nothing happens. The signal comes as soon as the thread that started this process ends.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, how)
    if os.getppid() != parent:  # it ended before the call above
        os.kill(os.getpid(), how)


def folder_for_sockets(prefix: str) -> str:
    """A new temporary folder; in /tmp if TMPDIR is too long for the paths of sockets (at most 107 bytes)."""
    return tempfile.mkdtemp(prefix=prefix, dir=_parent_for_sockets())


def _parent_for_sockets() -> str:
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= _LONGEST_FOLDER else "/tmp"


class TemporaryFolder:
    """A new folder in `parent` that is removed when this process ends in any way, or by `remove`.

    `parent`: by default, where the paths of sockets are short enough (see `folder_for_sockets`).

    A small process waits for a pipe to close, which the kernel does even if this process is killed. If both are killed
    at once, as by Slurm or by the memory limit of a container, the next folder of this class on this machine removes
    it.
    """

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        parent = parent or _parent_for_sockets()
        _remove_abandoned(Path(parent))
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._owner = os.open(self.path / _OWNER, os.O_CREAT | os.O_RDONLY)
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, where nobody can see that it is abandoned
            (self.path / _OWNER).unlink()
        words = ["sh", "-c", 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"', "sh", str(self.path)]
        nowhere = subprocess.DEVNULL
        self._janitor = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, start_new_session=True
        )

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove it now."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._owner)
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        try:
            self._janitor.wait(timeout=2.0)
        except subprocess.TimeoutExpired:  # it was stopped
            self._janitor.kill()
            self._janitor.wait()


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders in `parent` whose owner was killed."""
    for owner in parent.glob(f"mineonline-*/{_OWNER}"):
        try:
            lock = os.open(owner, os.O_RDONLY | os.O_NONBLOCK)  # nothing waits, whatever it is
        except OSError:  # another user's, or removed meanwhile
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(lock).st_mtime > _JUST_MADE_S:
                shutil.rmtree(owner.parent, ignore_errors=True)
        except OSError:  # its owner lives, or the file system has no locks
            pass
        finally:
            os.close(lock)


def own_temporary_folder() -> None:
    """Give this process and its children a temporary folder of their own.

    multiprocessing makes a folder in every process, and that of a killed child would stay.
    """
    folder = TemporaryFolder("mineonline-collector-")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder.path)
    # after multiprocessing has removed its own folder, whose priority is -100
    Finalize(None, folder.remove, exitpriority=-200)
