"""Found in PATH as `java`: runs the engine, and ends it as soon as the simulator that asked for it is gone.

MineStudio starts its engine through two shell scripts in a new session, which nothing ends when the simulator's process
is killed. This process is the engine's parent: it watches the simulator, and the kernel kills the engine when this
process dies. Standard library only, to start fast: it runs once per engine.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from functools import partial

SIMULATOR = "MINEONLINE_SIMULATOR"
"""Environment variable: process id of the simulator whose engine this is."""
COMMAND = "MINEONLINE_ENGINE"
"""Environment variable: the program to run with Java's arguments, its words separated by newlines."""
SCRATCH = "MINEONLINE_SCRATCH"
"""Environment variable: the simulator's folder, removed when the simulator is gone."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the engine until it ends or the simulator does; exits with the engine's code."""
    try:
        simulator = os.pidfd_open(int(os.environ[SIMULATOR]))
    except ProcessLookupError:
        raise SystemExit("the simulator is gone") from None
    libc = ctypes.CDLL(None)
    engine = subprocess.Popen(
        [*os.environ[COMMAND].split("\n"), *sys.argv[1:]],
        preexec_fn=partial(libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    engine_end = os.pidfd_open(engine.pid)
    ended, _, _ = select.select([simulator, engine_end], [], [])
    if simulator in ended:
        engine.kill()
        shutil.rmtree(os.environ[SCRATCH], ignore_errors=True)
    sys.exit(engine.wait())


if __name__ == "__main__":
    main()
