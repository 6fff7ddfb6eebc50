"""Each process writes its own log."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

MESSAGE = re.compile(r"^[-\d]+ [:,\d]+ (?:INFO|WARNING|ERROR) (.+)$", re.MULTILINE)
"""Matches a line of `log_to_stderr`; group 1 is the message."""
_ERROR = re.compile(r"(?:[-\d]+ [:,\d]+ ERROR |error: )(.+)")
"""Matches the first line of an error, as `log_to_stderr` or a command writes it; group 1 is its text."""


_LONGEST_DETAIL = 300
_LONGEST_END = 2**16
"""Bytes."""
_END_BYTES = 8192
"""Of a log, that its last message is looked for in."""


class Repeats:
    """Warnings that another machine can cause any number of: the first of a kind at once, then a count per minute."""

    def __init__(self, log: logging.Logger, *, every_s: float = 60.0) -> None:
        self._log = log
        self._every_s = every_s
        self._lock = threading.Lock()
        self._more: Counter[str] = Counter()
        """Kind -> warnings since the last line about it; a kind is here while its minute lasts."""

    def warning(self, kind: str, detail: str = "") -> None:
        """Log `kind: detail`, unless that kind was logged less than a minute ago: then count it.

        `kind`: one of few. `detail`: may be another machine's words; its first 300 printable characters are shown.
        """
        with self._lock:
            if kind in self._more:
                self._more[kind] += 1
                return
            self._start_minute(kind)
        shown = "".join(c if c.isprintable() else " " for c in detail[:_LONGEST_DETAIL])
        self._log.warning("%s", f"{kind}: {shown}" if shown else kind)

    def _start_minute(self, kind: str) -> None:
        self._more[kind] = 0
        timer = threading.Timer(self._every_s, self._end_minute, [kind])
        timer.daemon = True
        timer.start()

    def _end_minute(self, kind: str) -> None:
        with self._lock:
            more = self._more.pop(kind)
            if more:
                self._start_minute(kind)
        if more:
            self._log.warning("%s: %d more in the last %.0f s", kind, more, self._every_s)


def last_error(said: str) -> str:
    """The last error or exception in what a process has logged, in one line; its last line if there is none."""
    lines = [line for line in said.splitlines() if line.strip()]
    found, in_traceback = "", False
    for line in lines:
        if match := _ERROR.match(line):
            found, in_traceback = match[1], False
        elif line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif in_traceback and not line[0].isspace():
            found, in_traceback = line, False  # what follows may be more of its text, or unrelated
    return (found or (lines[-1] if lines else ""))[:_LONGEST_DETAIL].strip()


def log_to_stderr() -> None:
    """Log this process's messages to stderr, with the time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


class _ToTerminal(logging.StreamHandler):  # type: ignore[type-arg]
    def emit(self, record: logging.LogRecord) -> None:
        """To what is `sys.stderr` now: a display that is redrawn in place replaces it."""
        self.stream = sys.stderr
        super().emit(record)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: on a full disk, logging would print a traceback for each message."""


@contextmanager
def logging_to_file(file: Path) -> Iterator[None]:
    """Log this process's messages and warnings to `file`, and mineonline's own warnings also to the terminal.

    Messages that cannot be written to `file` are lost there.
    """
    handler = _LogFile(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    terminal = _ToTerminal()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    own = logging.getLogger("mineonline")
    own.addHandler(terminal)
    try:
        yield
    finally:
        own.removeHandler(terminal)
        root.removeHandler(handler)
        handler.close()


def send_output_to(file: Path) -> None:
    """Append this process's stdout and stderr, including those of C code, to `file`."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open_log(file) as log_file:
        os.dup2(log_file.fileno(), 1)
        os.dup2(log_file.fileno(), 2)


def open_log(file: Path) -> BinaryIO:
    """Opened for appending. If its run folder is gone, it is not made again, and what is logged is lost."""
    try:
        file.parent.mkdir(exist_ok=True)
        return file.open("ab")
    except FileNotFoundError:
        return open(os.devnull, "ab")


def worker_log(collector_log: Path, worker: int) -> Path:
    """Where the stdout and stderr of a collector's worker go."""
    return collector_log.with_name(f"{collector_log.stem}-worker-{worker}.log")


class NewMessages:
    """What collectors and their workers write to their logs from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {file: file.stat().st_size for file in folder.glob("*.log")}
        """Bytes that were there before, if the run was resumed."""

    def newest(self, name: str, *, within_s: float = float("inf")) -> str:
        """The last message in the newest log of the collector `name` or its workers; of a worker, with its log's name.

        Empty if none of these logs has one, or none was written to within the last `within_s` seconds.
        """
        with suppress(OSError):  # the run folder may be deleted, or out of reach, at any time
            files = [self._folder / f"{name}.log", *self._folder.glob(f"{name}-worker-*.log")]
            stats = sorted(((file.stat(), file) for file in files if file.exists()), key=lambda s: -s[0].st_mtime)
            for stat, file in stats:
                if stat.st_mtime < time.time() - within_s:
                    break
                with file.open("rb") as source:
                    source.seek(max(self._known.get(file, 0), stat.st_size - _END_BYTES))
                    messages: list[str] = MESSAGE.findall(source.read().decode(errors="replace"))
                if messages:
                    worker = file.stem.removeprefix(name).strip("-")
                    return f"{worker}: {messages[-1]}" if worker else messages[-1]
        return ""


def tail(file: Path, lines: int = 15) -> str:
    """The last lines of a log; empty if there is none."""
    return "\n".join(end_of(file).splitlines()[-lines:])


def end_of(file: Path, *, since: int = 0) -> str:
    """The last 64 KB at most, from byte `since` on: it may have grown for weeks. Empty if there is no such file."""
    with suppress(FileNotFoundError), file.open("rb") as source:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(since, size - _LONGEST_END))
        return source.read().decode(errors="replace")
    return ""
