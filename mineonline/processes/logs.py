"""Each process writes its own log."""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

MESSAGE = re.compile(r"^[-\d]+ [:,\d]+ (?:INFO|WARNING|ERROR) (.+)$", re.MULTILINE)
"""Matches a line of `log_to_stderr`; group 1 is the message."""


def log_to_stderr() -> None:
    """Log this process's messages to stderr, with the time."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


class _LogFile(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: on a full disk, logging would print a traceback for each message."""


def log_to_file(file: Path) -> None:
    """Log this process's messages and warnings to `file`, and mineonline's own warnings also to the terminal.

    Messages that cannot be written to `file` are lost there.
    """
    handler = _LogFile(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("mineonline").addHandler(terminal)


def send_output_to(file: Path) -> None:
    """Append this process's stdout and stderr, including those of C code, to `file`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def worker_log(collector_log: Path, worker: int) -> Path:
    """Where the stdout and stderr of a collector's worker go."""
    return collector_log.with_name(f"{collector_log.stem}-worker-{worker}.log")


def tail(file: Path, lines: int = 15) -> str:
    """The last lines of a text file; empty if there is none."""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""
