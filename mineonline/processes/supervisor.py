"""The collectors that the trainer starts on its own machine: child processes, restarted when they fail.

Runs in a thread of rank 0. A collector that ends is restarted after a pause that doubles with each failure in a row;
sending a fragment resets the count. Too many failures in a row, or an error that a restart cannot fix, reach the
training loop through `check`.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mineonline.errors import CollectorError
from mineonline.processes.lifetimes import PARENT_VARIABLE, RUN_DIR_VARIABLE, folder_for_sockets
from mineonline.processes.logs import tail
from mineonline.processes.sockets import KEYS_FILE

log = logging.getLogger(__name__)

CONFIG_EXIT_CODE = 78
"""Of a collector that would fail in the same way after a restart."""
LOG_VARIABLE = "MINEONLINE_LOG"
"""In a collector's environment: its log file."""
_LONGEST_PAUSE_S = 30.0


@dataclass
class _Child:
    log_file: Path
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    start_at: float = 0.0
    log_start: int = 0
    """Size of the log when the process started, in bytes."""
    scratch: str | None = None
    """Its temporary folder, which it removes itself unless it is killed."""

    def remove_scratch(self) -> None:
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch = None


class LocalCollectors:
    """Keeps `count` collectors alive, which join at `address`, while the context is open.

    `last_arrival` returns the monotonic time at which the newest fragment arrived, from any collector.
    """

    def __init__(
        self, count: int, address: str, run_dir: Path, *, max_failures: int, last_arrival: Callable[[], float]
    ) -> None:
        self._address = address
        self._run_dir = run_dir
        self._max_failures = max_failures
        self._children = [_Child(run_dir / "logs" / f"collector-{i}.log") for i in range(count)]
        self._stop = threading.Event()
        self._error: CollectorError | None = None
        self._thread = threading.Thread(target=self._supervise, name="collector-supervisor")
        self._last_arrival = last_arrival
        self.restarts = 0

    def check(self) -> None:
        """CollectorError if the collectors have been given up."""
        if self._error is not None:
            raise self._error

    def __enter__(self) -> LocalCollectors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _supervise(self) -> None:
        # the kernel ends the children with the thread that started them, so this one must outlive them
        while not self._stop.is_set() and self._error is None:
            for child in self._children:
                self._look_after(child)
            self._stop.wait(0.2)
        self._end_all()

    def _look_after(self, child: _Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                child.process = self._start(child)
            return
        code = child.process.poll()
        if code is None:
            return
        started_at = child.start_at
        child.process = None
        child.remove_scratch()
        if code == 0:  # it left because the run is complete
            child.start_at = float("inf")
            return
        child.failures = 1 if self._last_arrival() > started_at else child.failures + 1
        log.warning("a collector ended with exit code %d; its log is %s", code, child.log_file)
        if code == CONFIG_EXIT_CODE:
            said = child.log_file.read_bytes()[child.log_start :].decode(errors="replace")
            # from the first such line on: an engine's output, quoted in the error, may contain more of them
            text = f"\n{said}".partition("\nerror: ")[2].rstrip()
            self._error = CollectorError(f"a collector cannot run: {text}\nIts log: {child.log_file}")
            return
        if child.failures > self._max_failures:
            self._error = CollectorError(
                f"a collector cannot run (exit code {code}, {child.failures} failures in a row). The end of its log, "
                f"{child.log_file}:\n{tail(child.log_file, lines=25)}"
            )
            return
        self.restarts += 1
        child.start_at = time.monotonic() + min(_LONGEST_PAUSE_S, 2.0 ** (child.failures - 1) - 1)

    def _start(self, child: _Child) -> subprocess.Popen[bytes]:
        child.log_file.parent.mkdir(parents=True, exist_ok=True)
        child.start_at = time.monotonic()
        child.scratch = folder_for_sockets("mineonline-collector-")
        environment = {
            **os.environ,
            RUN_DIR_VARIABLE: str(self._run_dir),
            LOG_VARIABLE: str(child.log_file),
            PARENT_VARIABLE: str(os.getpid()),
            "TMPDIR": child.scratch,
        }
        keys = [f"keys={self._run_dir / KEYS_FILE}"] if self._address.startswith("tcp://") else []
        with child.log_file.open("ab") as file:
            child.log_start = file.tell()
            return subprocess.Popen(
                [sys.executable, "-m", "mineonline.collect", f"run={self._address}", *keys],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                # Ctrl-C in the trainer's terminal is for the trainer, which ends the collectors in an orderly way
                start_new_session=True,
            )

    def _end_all(self) -> None:
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        for process in alive:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self._children:
            child.remove_scratch()
