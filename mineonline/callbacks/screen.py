"""Where a run's status is shown: a panel that is redrawn in place, or lines for logs."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

import rich
from rich.control import Control
from rich.live import Live
from rich.text import Text

from mineonline.callbacks.panel import StatusPanel, line
from mineonline.status import Status

_LINE_EVERY_S = 10.0
_PROGRESS_BAR_ROWS = 2


def is_terminal() -> bool:
    """Whether stdout is a terminal on which a panel can be redrawn."""
    console = rich.get_console()
    return sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal


def _terminal_size() -> os.terminal_size | None:
    """None if the terminal is gone."""
    with suppress(OSError):
        return os.get_terminal_size(sys.stdout.fileno())
    return None


class PanelScreen:
    """A panel below all that is printed, from `begin` to `end`.

    It is drawn on rich's own console, which Lightning's progress bar uses too: rich then draws one below the other.
    """

    def __init__(self) -> None:
        self._live: Live | None = None
        self._reserve = 0
        self._size = _terminal_size()
        self._is_moved = False

    def begin(self, *, beside_bar: bool) -> None:
        """`beside_bar`: Lightning's progress bar is drawn too, and has begun."""
        self._reserve = _PROGRESS_BAR_ROWS if beside_bar else 0
        self._live = Live(console=rich.get_console(), auto_refresh=False, transient=True, vertical_overflow="crop")
        self._live.start()
        # a trainer that is killed would leave a terminal without a cursor
        self._live.console.show_cursor(True)

    def resized(self) -> bool:
        """Whether the terminal has another size than at the last call."""
        before, self._size = self._size, _terminal_size()
        self._is_moved |= before != self._size
        return before != self._size

    def show(self, status: Status) -> None:
        """Draw it."""
        if self._live is not None:
            if self._is_moved:  # all lines are elsewhere now, and the old panel could not be drawn over
                self._is_moved = False
                self._live.console.control(Control.home(), Control.clear())
            self._live.update(StatusPanel(status, reserve=self._reserve), refresh=True)

    def end(self, status: Status | None) -> None:
        """Remove the panel, and leave a line about `status` in its place."""
        if self._live is None:
            return
        console = self._live.console
        # rich ends with an empty line, which would push the first one of a high panel out of reach
        self._live.update(Text(""), refresh=True)
        self._live.stop()
        self._live = None
        if status is not None and status.links:
            console.print(Text(line(status)))


class LinesScreen:
    """A line on stderr at most every 10 s, from `begin` to `end`: if an iteration has ended, or no fragment comes."""

    def __init__(self) -> None:
        self._on = False
        self._printed_at = float("-inf")
        self._printed_iteration = 0

    def begin(self, *, beside_bar: bool) -> None:
        """Print from now on."""
        self._on = True

    def resized(self) -> bool:
        """Never."""
        return False

    def show(self, status: Status) -> None:
        """Print a line if one is due."""
        if not self._on or time.monotonic() < self._printed_at + _LINE_EVERY_S:
            return
        if status.iteration != self._printed_iteration and status.links:
            self._print(line(status), status)
        elif status.silent_s > _LINE_EVERY_S:
            self._print(status.headline, status)

    def end(self, status: Status | None) -> None:
        """Print a last line."""
        if self._on and status is not None and status.links:
            self._print(line(status), status)
        self._on = False

    def _print(self, text: str, status: Status) -> None:
        self._printed_at, self._printed_iteration = time.monotonic(), status.iteration
        print(text, file=sys.stderr, flush=True)
