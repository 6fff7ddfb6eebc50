"""The collectors that the trainer starts on its own machine: child processes, replaced when they fail.

Runs in a thread of rank 0. A collector that ends is replaced; with each failure in a row the time from one start to the
next doubles, and one that has sent fragments resets the count. One that was stopped or frozen is killed, and so
replaced. Too many failures in a row, or an error that a restart cannot fix, reach the training loop through `check`.

Once fragments arrive 5 s after the newest start, one more is started: the spare. It has done its imports, which take
seconds, and waits for its turn on stdin. It takes the place of the next collector that ends. Without it, as when two
end at once, a collector is started from nothing.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from mineonline.errors import CollectorError
from mineonline.processes.lifetimes import PARENT_VARIABLE, RUN_DIR_VARIABLE
from mineonline.processes.logs import end_of, last_error, open_log, send_output_to, tail
from mineonline.processes.pauses import pause_after
from mineonline.processes.sockets import keys_file
from mineonline.processes.threads import ServiceThread

log = logging.getLogger(__name__)

CONFIG_EXIT_CODE = 78
"""Of a collector that would fail in the same way after a restart."""
LOG_VARIABLE = "MINEONLINE_LOG"
"""In a collector's environment, once it has a place: its log file."""
PLAYING = "the first fragments are sent"
"""What a collector logs once it plays."""
_LOOK_EVERY_S = 0.2
_LONGEST_INTERVAL_S = 10.0
"""From one start in a place to the next, after many failures."""
_LONGEST_ABSENCE_S = 20.0
"""A connection that broke is there again sooner. ZeroMQ's heartbeats take 10 s to notice that one is gone."""
_LONGEST_END_S = 20.0
_SPARE_AFTER_S = 5.0
"""The spare is started when fragments still arrive this long after the newest collector was started."""


@dataclass
class _Place:
    """One of the collectors that the run is to have."""

    log_file: Path
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    why: str = ""
    """How the last process here ended, and why."""
    failed_at: float = float("-inf")
    """When: seconds since the epoch."""
    start_at: float = 0.0
    was_present: bool = False
    absent_s: float = 0.0
    """For how long the process has not been present, though it could have been."""
    killed: str = ""
    """Why it was killed, if it was: the end of a sentence."""
    log_start: int = 0
    """Size of the log when the process took this place, in bytes."""

    def said(self) -> str:
        """The end of what the process has logged since then."""
        return end_of(self.log_file, since=self.log_start)

    def has_played(self) -> bool:
        """Whether it has logged that it plays."""
        with suppress(FileNotFoundError), self.log_file.open("rb") as file:
            file.seek(self.log_start)
            return any(PLAYING.encode() in line for line in file)
        return False


class Child(NamedTuple):
    """One of the collectors that the run is to have, as it is now."""

    name: str
    """As its log is called."""
    pid: int | None
    """None while there is no process: one is started in `starts_in_s`."""
    starts_in_s: float
    why: str
    """How the last process in its place ended, and why; empty if none has failed."""
    failed_at: float
    """When that was: seconds since the epoch."""


def wait_for_turn() -> None:
    """In a collector that a trainer started: wait until it has a place, and write to its log from then on.

    Waits for as long as the trainer lives. SystemExit if the trainer has no use for it.
    """
    if not select.select([sys.stdin], [], [], 0)[0]:
        log.info("the imports are done; waiting for a place")
    log_file = sys.stdin.readline().strip()
    if not log_file:
        raise SystemExit(0)
    send_output_to(Path(log_file))
    os.environ[LOG_VARIABLE] = log_file


class LocalCollectors:
    """Keeps `count` collectors alive, which join at `address`, while the context is open.

    `spare`: whether to keep one. `start_timeout_s`: within which one must be present, once it has a place and may join.
    `is_present`: whether the collector with this process id answers the trainer. `last_arrival` returns the monotonic
    time at which the newest fragment arrived, from any collector.
    """

    def __init__(
        self, count: int, address: str, run_dir: Path, *, spare: bool, start_timeout_s: float,
        max_failures: int, is_present: Callable[[int], bool], last_arrival: Callable[[], float],
    ) -> None:  # fmt: skip
        self._address = address
        self._start_timeout_s = start_timeout_s
        self._is_open = False
        self._run_dir = run_dir
        self._max_failures = max_failures
        self._places = [_Place(run_dir / "logs" / f"collector-{i}.log") for i in range(count)]
        self._spare: subprocess.Popen[bytes] | None = None
        self._keeps_spare = spare
        self._wants_spare = False
        self._error: CollectorError | None = None
        self._thread = ServiceThread(self._supervise, "collector-supervisor")
        self._is_present = is_present
        self._last_arrival = last_arrival
        self.restarts = 0
        self.ever: set[int] = set()
        """Process ids of all collectors that have had a place."""

    @property
    def children(self) -> tuple[Child, ...]:
        """The collectors that the run is to have; not those that have left because it is complete."""
        now = time.monotonic()
        return tuple(
            Child(
                place.log_file.stem, process.pid if process is not None else None, max(0.0, place.start_at - now),
                place.why, place.failed_at,
            )
            for place in self._places
            if (process := place.process) is not None or place.start_at < float("inf")
        )  # fmt: skip

    @property
    def pids(self) -> set[int]:
        """Of the collectors that have a place now."""
        return {process.pid for place in self._places if (process := place.process) is not None}

    def may_join(self) -> None:
        """From now on collectors are answered."""
        self._is_open = True

    def check(self) -> None:
        """CollectorError if the collectors have been given up; RuntimeError if the thread has failed."""
        if self._error is not None:
            raise self._error
        self._thread.check()

    def __enter__(self) -> LocalCollectors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.end(_LONGEST_END_S)

    def _supervise(self) -> None:
        # the kernel ends the children with the thread that started them, so this one must outlive them
        try:
            while not self._thread.stopping.is_set() and self._error is None:
                for place in self._places:
                    self._look_after(place)
                self._look_after_spare()
                self._thread.stopping.wait(_LOOK_EVERY_S)
        finally:
            self._end_all()

    def _look_after(self, place: _Place) -> None:
        if place.process is None:
            if time.monotonic() >= place.start_at:
                self._fill(place)
            return
        code = place.process.poll()
        if code is None:
            self._kill_if_absent(place, place.process)
            return
        place.process = None
        if code == 0:  # it left because the run is complete
            place.start_at = float("inf")
            return
        said = place.said()
        if code == CONFIG_EXIT_CODE:
            # from the first such line on: an engine's output, quoted in the error, may contain more of them
            text = f"\n{said}".partition("\nerror: ")[2].rstrip()
            self._error = CollectorError(f"a collector cannot run: {text}\nIts log: {place.log_file}")
            return
        if place.has_played():
            place.failures = 0
        self._failed(place, place.killed or _how(code, said))

    def _kill_if_absent(self, place: _Place, process: subprocess.Popen[bytes]) -> None:
        # counted in looks: while this thread stood still, as when the machine sleeps, so did the collector
        if self._is_present(process.pid):
            place.was_present, place.absent_s = True, 0.0
        elif self._is_open:
            place.absent_s += _LOOK_EVERY_S
        if place.was_present and place.absent_s > _LONGEST_ABSENCE_S:
            place.killed = f"was stopped or frozen for {_LONGEST_ABSENCE_S:g} s, and killed"
        elif not place.was_present and place.absent_s > self._start_timeout_s:
            place.killed = (
                f"did not join within {self._start_timeout_s:g} s (collector.start_timeout_s), and was killed"
            )
        if place.killed:
            process.kill()

    def _failed(self, place: _Place, how: str) -> None:
        """A collector has ended, or could not be started: try again later, or give up."""
        place.failures += 1
        place.why, place.failed_at = how, time.time()
        if place.failures >= self._max_failures:
            self._error = CollectorError(
                f"a collector {how}: {place.failures} failures in a row (collector.max_failures). The end of its log, "
                f"{place.log_file}:\n{tail(place.log_file, lines=25)}"
            )
            return
        self.restarts += 1
        now = time.monotonic()
        place.start_at = max(now, place.start_at + pause_after(place.failures, longest_s=_LONGEST_INTERVAL_S))
        when = f"in {place.start_at - now:.0f} s" if place.start_at > now else "now"
        log.warning("a collector %s; another is started %s; its log is %s", how, when, place.log_file)

    def _look_after_spare(self) -> None:
        if self._spare is not None:
            if self._spare.poll() is not None:
                self._spare = None  # the next one is made when a collector has ended: this one may have been too much
            return
        if not self._wants_spare or any(place.process is None for place in self._places):
            return
        if self._last_arrival() > max(place.start_at for place in self._places) + _SPARE_AFTER_S:
            self._wants_spare = False
            with suppress(OSError):  # the machine has no room for one more
                self._spare = self._start(self._run_dir / "logs" / "spare.log")

    def _fill(self, place: _Place) -> None:
        """Give a place to the spare if there is one, otherwise to a new process."""
        place.log_start = place.log_file.stat().st_size if place.log_file.exists() else 0
        place.start_at, place.was_present, place.absent_s, place.killed = time.monotonic(), False, 0.0, ""
        try:
            place.process, self._spare = self._spare or self._start(place.log_file), None
        except OSError as error:
            self._failed(place, f"could not be started ({error})")
            return
        self.ever.add(place.process.pid)
        place.process.send_signal(signal.SIGCONT)  # while it was the spare, it may have been stopped
        assert place.process.stdin is not None
        with suppress(BrokenPipeError), place.process.stdin as orders:  # it may have ended by now
            orders.write(f"{place.log_file}\n".encode())
        self._wants_spare = self._keeps_spare

    def _start(self, log_file: Path) -> subprocess.Popen[bytes]:
        environment = {**os.environ, RUN_DIR_VARIABLE: str(self._run_dir), PARENT_VARIABLE: str(os.getpid())}
        keys = [f"keys={keys_file(self._run_dir)}"] if self._address.startswith("tcp://") else []
        with open_log(log_file) as file:
            return subprocess.Popen(
                [sys.executable, "-m", "mineonline.collect", f"run={self._address}", *keys],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=environment,
                # Ctrl-C in the trainer's terminal is for the trainer, which ends the collectors in an orderly way
                start_new_session=True,
            )

    def _end_all(self) -> None:
        alive = [
            process for process in (self._spare, *(place.process for place in self._places)) if process is not None
        ]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        for process in alive:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _how(code: int, said: str) -> str:
    """How and why a process ended that logged this."""
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed ({names.get(-code, f'signal {-code}')})"
    why = last_error(said)
    return f"ended with exit code {code} ({why})" if why else f"ended with exit code {code}"
