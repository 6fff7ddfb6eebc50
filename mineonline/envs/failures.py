"""What becomes of environments that fail: when each is replaced, and when the run has to stop.

Axes: N environments.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable

from mineonline.errors import EnvError
from mineonline.processes.pauses import pause_after

log = logging.getLogger(__name__)

MOST_CHARACTERS = 300
"""Of a reason."""
_LONGEST_PAUSE_S = 60.0
_MOST_LINES = 20
"""Log messages about one reason: an environment may fail a thousand times per second."""
_MOST_REASONS = 100
"""That are told apart in the log: some texts contain numbers, and never end."""


class Failures:
    """Counts the failures of N environments. One that fails is replaced at once, and then after pauses that double."""

    def __init__(self, what: str, first_index: int, *, most: int, advice: str = "") -> None:
        """`what` fails, for example `environment`; `first_index` is the global index of the first.

        `most`: failures of one environment without a decision in between that end the run, with `advice`.
        """
        self._what, self._first_index, self._most, self._advice = what, first_index, most, advice
        self._in_a_row: dict[int, int] = {}
        self._retry_at: dict[int, float] = {}
        self._reasons: dict[int, str] = {}
        self._logged: Counter[str] = Counter()

    def add(self, n: int, reason: str, *, details: str = "", error: BaseException | None = None) -> None:
        """Environment n has failed. `details` and, the first time, the traceback of `error` go to the log only.

        EnvError if it has failed too often.
        """
        reason = one_line(reason)
        self._reasons[n] = reason
        count = self._in_a_row[n] = self._in_a_row.get(n, 0) + 1
        named = f"{self._what} {self._first_index + n}"
        if count >= self._most:
            raise EnvError(
                f"{named} failed {count} times without a decision in between (env.max_failures). The last failure: "
                + "\n".join(filter(None, (reason, details, self._advice)))
            )
        pause_s = pause_after(count, longest_s=_LONGEST_PAUSE_S)
        self._retry_at[n] = time.monotonic() + pause_s
        known = reason if reason in self._logged or len(self._logged) < _MOST_REASONS else "any other reason"
        self._logged[known] += 1
        if self._logged[known] <= _MOST_LINES:
            when = f"in {pause_s:.0f} s" if pause_s else "at once"
            text = f"{reason}\n{details}".rstrip()
            trace = error if self._logged[known] == 1 else None
            log.warning("%s failed and is replaced %s: %s", named, when, text, exc_info=trace)
        if self._logged[known] == _MOST_LINES:
            log.warning("further failures for this reason are not logged: %s", known)

    def decided(self, playing: Iterable[int]) -> None:
        """These environments have taken a decision."""
        if self._in_a_row:
            for n in playing:
                self._in_a_row.pop(n, None)

    def pause_s(self, n: int) -> float:
        """Seconds until environment n may be replaced; 0 if it may now."""
        return max(0.0, self._retry_at[n] - time.monotonic()) if n in self._retry_at else 0.0

    def take(self) -> dict[int, str]:
        """The environments that have failed since the last call, and why: `Step.reasons`."""
        taken, self._reasons = self._reasons, {}
        return taken


def one_line(text: str) -> str:
    """Fit to be shown in a terminal: short, and without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 3]}..."
