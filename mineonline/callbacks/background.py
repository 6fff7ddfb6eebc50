"""Processes that look at a run beside its training: at low priority, and gone with the trainer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from mineonline.processes.lifetimes import PARENT_VARIABLE, RUN_DIR_VARIABLE

_NICER_BY = 10


def start(
    module: str, words: Sequence[str], run_dir: Path, output: IO[bytes], given: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """`python -m <module> <words>`, which reads `given` as its stdin and writes to `output`.

    Call it in a thread that lives as long as the run: the kernel ends the process with the thread. OSError if there
    is no room for a process.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL if given is None else given,
        stdout=output,
        stderr=output,
        env={
            **os.environ,
            RUN_DIR_VARIABLE: str(run_dir),
            PARENT_VARIABLE: str(os.getpid()),
            "OMP_NUM_THREADS": "1",
        },
        # Ctrl-C in the trainer's terminal is for the trainer, which ends the process
        start_new_session=True,
    )
    os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER_BY)
    return process
