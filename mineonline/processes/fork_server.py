"""A collector's fork server: its workers start in milliseconds, because the imports that take seconds are done once.

    collector ──starts──▶ fork server ──forks──▶ worker 0, worker 1, ...

It is multiprocessing's own; what it imports first is `in_fork_server`, so that it ends with its collector, and
the workers end with it, whatever is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing import forkserver

from mineonline.processes.lifetimes import die_with_parent

OWNER_VARIABLE = "MINEONLINE_FORKS_FOR"
"""Process id of the collector, in the environment of its fork server."""
SERVER_VARIABLE = "MINEONLINE_FORK_SERVER"
"""Process id of the fork server, in the environment of the workers."""


def start(modules: list[str]) -> None:
    """Have the children of this process forked by a server that imports `modules`. Returns at once, while it imports.

    Call it in the main thread: the server ends with the thread that started it. Only the first call counts. The modules
    must neither start threads nor touch CUDA when they are imported.
    """
    if os.environ.get(OWNER_VARIABLE) != str(os.getpid()):
        os.environ[OWNER_VARIABLE] = str(os.getpid())
        multiprocessing.set_start_method("forkserver", force=True)
        multiprocessing.set_forkserver_preload(["mineonline.processes.in_fork_server", *modules])
    forkserver.ensure_running()
    wake()


def wake() -> None:
    """Let the fork server go on if it was stopped: this process would wait for it, at its end too."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def die_with_fork_server() -> None:
    """Have the kernel kill this process when the fork server that made it ends."""
    die_with_parent(int(os.environ[SERVER_VARIABLE]))
