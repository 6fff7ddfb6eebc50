"""A run's status as a panel for the terminal, of whatever size that has at the moment."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.text import Text

from mineonline.status import Collector, Score, Status

_SCORES = 2
"""To show: the return, and the statistic that the task is about."""
_LONGEST_NAME = 24
_LEVELS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    "playing": "green",
    "waiting": "green",
    "starting": "cyan",
    "silent": "yellow",
    "restarting": "red",
    "left": "red",
}
_TROUBLE_FIRST = ("restarting", "silent", "left", "starting", "waiting", "playing")
_FEWEST_COLLECTORS = 3
"""Rows for them that other parts give way to, where they do not fit."""

_LABEL, _VALUE, _NOTE = 16, 11, 24
"""Columns."""


class StatusPanel:
    """Draws `status` in as many rows as the terminal has, less `reserve` for what else is shown there.

    The last row is blank: the cursor waits there, and a key that is pressed, as Ctrl-C, is echoed there.
    """

    def __init__(self, status: Status, *, reserve: int = 0) -> None:
        self._status = status
        self._reserve = reserve

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        page = _Page(console, max(10, options.max_width - 4), ascii_only=options.ascii_only)
        lines = _fitted(self._status, page, max(1, options.size.height - self._reserve - 3))
        yield Panel(
            Group(*lines), title=Text(short_path(self._status.run_dir, page.width - 2), style="bold"),
            title_align="left", box=ROUNDED, padding=(0, 1), width=options.max_width, border_style="dim",
        )  # fmt: skip
        yield Text("")


def _fitted(status: Status, page: _Page, room: int) -> list[Text]:
    """The lines of the panel, at most `room`."""
    # each with its rank: the last give way first
    parts = list(_parts(status, page))
    collectors = _by_trouble(status.collectors)
    rows = _collector_rows(collectors, page)
    needed = min(_FEWEST_COLLECTORS, sum(map(len, rows)))
    while len(parts) > 1 and sum(len(lines) for _, lines in parts) + needed > room:
        parts.pop(max(range(len(parts)), key=lambda i: (parts[i][0], i)))
    left = room - sum(len(lines) for _, lines in parts)
    shown = _first_that_fit(rows, left)
    listed = [line for row in rows[:shown] for line in row]
    if shown < len(rows) and left:
        listed += page.wrapped(_others(collectors[shown:], some=shown > 0), "dim")[:left]
    groups = [[line for rank, lines in parts if rank in ranks for line in lines] for ranks in _GROUPS]
    groups.insert(len(groups) - 1, listed)
    return _with_blanks([group for group in groups if group], room)[:room]


class _Page:
    """Lines of `width` columns."""

    def __init__(self, console: Console, width: int, *, ascii_only: bool) -> None:
        self.width = width
        self.ascii_only = ascii_only
        self._console = console

    def wrapped(self, text: str, style: str = "", *, indent: int = 0, most: int = 0) -> list[Text]:
        """`text` in lines that end `indent` before the end of the page; of more than `most`, the last ends in dots."""
        width = max(10, self.width - indent)
        lines = list(Text(text, style=style).wrap(self._console, width, overflow="fold"))
        for line in lines:
            line.rstrip()
        if most and len(lines) > most:
            del lines[most:]
            lines[-1].truncate(width - 3)
            lines[-1].append("...")
        return lines

    def row(self, label: str, value: str, rest: Text) -> list[Text]:
        """A name, a number and what belongs to it."""
        name = Text(label, style="dim")
        name.truncate(_LABEL - 1, pad=True)
        line = Text.assemble(name, " ", value.rjust(_VALUE), "  ", rest)
        line.truncate(self.width)
        return [line]

    def bar(self, share: float, note: str, style: str = "blue") -> Text:
        """A bar of which `share` is filled, and a few words behind it."""
        width = self.width - _LABEL - _VALUE - 2 - _NOTE
        if width < 5:
            return Text(note, style="dim")
        full = round(min(1.0, max(0.0, share)) * width)
        filled, empty = ("#" * full, "-" * (width - full)) if self.ascii_only else ("━" * full, "─" * (width - full))
        return Text.assemble((filled, style), (empty, "grey23"), " ", (note, "dim"))

    def curve(self, values: Sequence[float]) -> Text:
        """The course of a score."""
        return Text("" if self.ascii_only else sparkline(values, self.width - _LABEL - _VALUE - 2), style="cyan")


_HEADLINE, _ITERATION, _SCORE, _FAILURES, _SPEED, _BUFFER, _LINKS, _VIDEO = range(8)
_GROUPS = ((_HEADLINE,), (_ITERATION, _SCORE, _SPEED, _BUFFER, _LINKS), (_FAILURES, _VIDEO))
"""Parts that stand together, from the top; the collectors are between the last two."""


def _parts(status: Status, page: _Page) -> Iterator[tuple[int, list[Text]]]:
    style = {"waiting": "bold cyan", "learning": "bold yellow", "finished": "bold green"}.get(status.phase, "bold red")
    yield _HEADLINE, page.wrapped(status.headline, style)
    done = status.iteration / max(1, status.iterations)
    left = f", {duration(status.ends_at - time.time())} left" if status.ends_at else ""
    bar = page.bar(done, f"{100 * done:.0f} %{left}", "green")
    yield _ITERATION, page.row("iteration", f"{status.iteration}/{status.iterations}", bar)
    for score in _scores(status):
        yield _SCORE, page.row(score.name, f"{score.value:.2f}", page.curve(score.history))
    if status.success_rate is not None:
        yield _SCORE, page.row("success", f"{100 * status.success_rate:.0f} %", page.bar(status.success_rate, ""))
    if status.links:
        lag = f"env steps/s, lag {status.lag_versions:.1f} versions (largest {status.lag_versions_max:.0f})"
        yield _SPEED, page.row("speed", f"{status.env_steps_per_s:,.0f}", Text(lag, style="dim"))
    bar = page.bar(status.buffer_fragments / status.buffer_wanted, f"of {status.buffer_wanted} fragments wanted")
    yield _BUFFER, page.row("buffer", f"{status.buffer_fragments}", bar)
    for link in status.links:
        whose = "learner's" if link.name == "learner" else "collectors'"
        bar = page.bar(link.share, f"of the {whose} time", "yellow")
        yield _LINKS, page.row(link.name, f"{100 * link.share:.0f} %", bar)
    for failure in status.failures[:2]:
        text = f"environment {failure.last_env} failed ({failure.times}x so far): {failure.reason}"
        yield _FAILURES, page.wrapped(text, "red", most=2)
    if status.newest_video is not None and status.newest_video_at is not None:
        age = duration(time.time() - status.newest_video_at)
        name = os.path.relpath(status.newest_video, status.run_dir)
        yield _VIDEO, page.wrapped(f"newest video  {name}, {age} ago", most=1)


def _scores(status: Status) -> Sequence[Score]:
    return [score for score in status.scores if score.name != "length"][:_SCORES]


def _by_trouble(collectors: Sequence[Collector]) -> list[Collector]:
    return sorted(collectors, key=lambda collector: _TROUBLE_FIRST.index(collector.state))


def _collector_rows(collectors: Sequence[Collector], page: _Page) -> list[list[Text]]:
    """The lines of each."""
    width = min(_LONGEST_NAME, max((len(collector.name) for collector in collectors), default=0))
    rows = []
    for collector in collectors:
        name = Text(collector.name)
        name.truncate(width, overflow="ellipsis", pad=True)
        state = Text(collector.state.ljust(10), style=_COLOURS[collector.state])
        row = page.wrapped(_about(collector), indent=width + 14, most=3) or [Text("")]
        indent = Text(" " * (width + 14))
        rows.append([Text.assemble(name, "  ", state, "  ", row[0]), *(indent + line for line in row[1:])])
    return rows


def _about(collector: Collector) -> str:
    parts = [collector.detail] if collector.detail else []
    if collector.last_fragment_at is not None:
        parts.insert(0, f"last fragment {duration(time.time() - collector.last_fragment_at)} ago")
    return "; ".join(parts)


def _others(collectors: Sequence[Collector], *, some: bool) -> str:
    counts = Counter(collector.state for collector in collectors)
    more = "more " if some else "collector " if len(collectors) == 1 else "collectors "
    return f"{len(collectors)} {more}({', '.join(f'{n} {state}' for state, n in counts.items())})"


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` small bars, from the least to the greatest."""
    count = max(0, min(width, len(values)))
    if not count:
        return ""
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    least, span = min(means), max(means) - min(means)
    return "".join(_LEVELS[int((mean - least) / span * 7.999) if span else 0] for mean in means)


def _first_that_fit(rows: Sequence[list[Text]], room: int) -> int:
    """How many of `rows` can be shown, with one line for the others if not all can."""
    if sum(map(len, rows)) <= room:
        return len(rows)
    used = 0
    for number, row in enumerate(rows):
        used += len(row)
        if used > room - 1:
            return number
    return len(rows)


def _with_blanks(groups: Sequence[list[Text]], room: int) -> list[Text]:
    """The groups' lines, with a blank line between two where there is room for it."""
    spare = room - sum(map(len, groups))
    lines: list[Text] = []
    for number, group in enumerate(groups):
        if number and spare > 0:
            lines.append(Text(""))
            spare -= 1
        lines += group
    return lines


def duration(seconds: float) -> str:
    """In words of two units at most, such as `1 h 20 min`."""
    s = max(0.0, seconds)
    if s < 10:
        return f"{s:.1f} s"
    if s < 100:
        return f"{s:.0f} s"
    if s < 6000:
        return f"{s / 60:.0f} min"
    return f"{s // 3600:.0f} h {s % 3600 // 60:.0f} min"


def short_path(path: str, width: int) -> str:
    """`path` as it can be typed here, if that is shorter, and its end if even that is too long for `width`."""
    relative = os.path.relpath(path)
    shown = min(path, relative, key=len)
    return shown if len(shown) <= width else f"...{shown[3 - width :]}"


def line(status: Status) -> str:
    """The same in one line, for logs."""
    left = f", {duration(status.ends_at - time.time())} left" if status.ends_at else ""
    scores = [f"{score.name} {score.value:.2f}" for score in _scores(status)]
    if status.success_rate is not None:
        scores.append(f"success {100 * status.success_rate:.0f} %")
    numbers = [
        *(scores or ["no episode has ended since the start"]),
        f"{status.env_steps_per_s:.0f} steps/s",
        f"lag {status.lag_versions:.1f}",
    ]
    return f"iteration {status.iteration}/{status.iterations}{left}: {', '.join(numbers)}. {status.headline}"
