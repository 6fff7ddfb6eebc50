"""A program in a terminal, and what a person would see there."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from contextlib import suppress

from tests.helpers.programs import LIMIT_S, wait_until
from tests.helpers.settings import ROOT

_CUT = re.compile(r"\x1b\[?[?\d;]*$")
"""The beginning of an escape sequence, whose end has not come yet."""
_PIECE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|(\x1b.?)")


class Screen:
    """A terminal of `columns` x `rows` that understands what rich writes; `scrolled` has left it at the top."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""] * rows
        self.scrolled: list[str] = []
        self.cursor_shown = True
        self._row = self._column = 0

    def write(self, text: str) -> None:
        for number, what, move, words, other in _PIECE.findall(text):
            assert not other, f"an escape sequence that this terminal does not know: {text!r}"
            if move == "\r":
                self._column = 0
            elif move == "\n":
                self._down()
            elif words:
                self._print(words)
            elif what == "A":
                self._row = max(0, self._row - int(number or 1))
            elif what == "K":
                self.lines[self._row] = "" if number == "2" else self.lines[self._row][: self._column]
            elif what == "H":
                self._row = self._column = 0
            elif what == "J":
                self.lines = [""] * self.rows
            elif what in "hl" and number == "?25":
                self.cursor_shown = what == "h"

    @property
    def text(self) -> str:
        """All that can be seen, and what has scrolled away."""
        return "\n".join([*self.scrolled, *self.lines])

    @property
    def panel(self) -> str:
        """What is in the newest panel, without its frame, with single spaces; empty if none is whole."""
        edges = [i for i, line in enumerate(self.lines) if line.startswith(("╭", "╰"))]
        if len(edges) < 2 or not self.lines[edges[-1]].startswith("╰"):
            return ""
        inside = self.lines[edges[-2] : edges[-1]]
        return " ".join(" ".join(line.strip("│╭╮─ ") for line in inside).split())

    def _print(self, words: str) -> None:
        for character in words:
            if self._column == self.columns:
                self._column = 0
                self._down()
            line = self.lines[self._row].ljust(self._column)
            self.lines[self._row] = line[: self._column] + character + line[self._column + 1 :]
            self._column += 1

    def _down(self) -> None:
        if self._row == self.rows - 1:
            self.scrolled.append(self.lines.pop(0))
            self.lines.append("")
        else:
            self._row += 1


class TerminalProgram:
    """`python -m mineonline.train <arguments>` in a terminal of `columns` x `rows`; ended when the context is left."""

    def __init__(self, *arguments: str, columns: int = 80, rows: int = 24, cwd: object = None) -> None:
        self._terminal, theirs = pty.openpty()
        self.screen = Screen(columns, rows)
        self._set_size(columns, rows)
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mineonline.train", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, cwd=cwd,
            env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)
        self.written = ""
        """All that the program has written so far."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __enter__(self) -> TerminalProgram:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Close the terminal's window."""
        self._closing.set()
        self._thread.join(LIMIT_S)
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1

    def wait_for(self, condition) -> None:
        """Until `condition()`; fails the test with what the terminal shows, if the program ends before."""
        wait_until(lambda: condition() or self.process.poll() is not None, lambda: self.screen.text)
        assert condition(), f"ended with {self.process.returncode}:\n{self.screen.text}"

    def wait(self) -> int:
        """The exit code, when all that it has written is on the screen."""
        wait_until(lambda: self.process.poll() is not None, lambda: self.screen.text)
        self._thread.join(LIMIT_S)
        return self.process.returncode

    def resize(self, columns: int, rows: int) -> None:
        """Its lines move, as in a real terminal: what was there before is not looked at any more."""
        self.screen = Screen(columns, rows)
        self._set_size(columns, rows)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
        with suppress(OSError):  # raised by a terminal that nobody writes to any more
            while not self._closing.is_set():
                if not select.select([self._terminal], [], [], 0.1)[0]:
                    continue
                new = os.read(self._terminal, 65536)
                text = rest + decoder.decode(new)
                cut = _CUT.search(text)
                rest = text[cut.start() :] if cut else ""
                text = text[: cut.start()] if cut else text
                self.written += text
                self.screen.write(text)
