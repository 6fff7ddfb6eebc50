"""A run's status as a panel for the terminal, of whatever size that has at the moment."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.segment import Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from mineonline.status import Collector, Link, Score, Status

_SCORES = 2
"""To show: the return, and the statistic that the task is about."""
_LONGEST_DETAIL = 160
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

Lines = list[list[Segment]]


class StatusPanel:
    """Draws `status` in as many rows as the terminal has, less `reserve` for what else is shown there."""

    def __init__(self, status: Status, *, reserve: int = 1) -> None:
        self._status = status
        self._reserve = reserve

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        status, width = self._status, options.max_width
        room = max(1, options.size.height - self._reserve - 2)
        inside = options.update(width=max(20, width - 4), height=None)

        def drawn(content: RenderableType) -> Lines:
            return console.render_lines(content, inside, pad=False)

        # each with its rank: the last give way first
        parts = [(rank, drawn(content)) for rank, content in _parts(status, inside)]
        rows = [drawn(row) for row in _collector_rows(status)]
        needed = min(_FEWEST_COLLECTORS, sum(map(len, rows)))
        while len(parts) > 1 and sum(len(lines) for _, lines in parts) + needed > room:
            parts.remove(max(parts, key=lambda part: part[0]))
        left = room - sum(len(lines) for _, lines in parts)
        shown = _first_that_fit(rows, left)
        collectors = [line for row in rows[:shown] for line in row]
        if shown < len(rows) and left:
            collectors += drawn(_others(_by_trouble(status.collectors)[shown:], some=shown > 0))
        groups = [[line for rank, lines in parts if rank in ranks for line in lines] for ranks in _GROUPS]
        groups.insert(len(groups) - 1, collectors)
        lines = _with_blanks([group for group in groups if group], room)
        yield Panel(
            SegmentLines(lines, new_lines=True),
            title=Text(short_path(status.run_dir, width - 6), style="bold"), title_align="left",
            box=ROUNDED, padding=(0, 1), width=width, border_style="dim",
        )  # fmt: skip


_HEADLINE, _ITERATION, _SCORE, _FAILURES, _SPEED, _BUFFER, _LINKS, _VIDEO = range(8)
_GROUPS = ((_HEADLINE,), (_ITERATION, _SCORE, _SPEED, _BUFFER, _LINKS), (_FAILURES, _VIDEO))
"""Parts that stand together, from the top; the collectors are between the last two."""


def _parts(status: Status, options: ConsoleOptions) -> Iterator[tuple[int, RenderableType]]:
    style = {"waiting": "bold cyan", "learning": "bold yellow", "finished": "bold green"}.get(status.phase, "bold red")
    yield _HEADLINE, Text(status.headline, style=style, overflow="fold")
    done = status.iteration / max(1, status.iterations)
    left = f", {duration(status.ends_at - time.time())} left" if status.ends_at else ""
    bar = _bar(done, f"{100 * done:.0f} %{left}", "green")
    yield _ITERATION, _row("iteration", f"{status.iteration}/{status.iterations}", bar)
    for score in status.scores[:_SCORES]:
        yield _SCORE, _row(score.name, f"{score.value:.2f}", _curve(score, options))
    if status.success_rate is not None:
        yield _SCORE, _row("success", f"{100 * status.success_rate:.0f} %", _bar(status.success_rate, "", "green"))
    if status.links:
        lag = f"env steps/s, lag {status.lag_versions:.1f} versions (at most {status.lag_versions_max:.0f})"
        yield _SPEED, _row("speed", f"{status.env_steps_per_s:,.0f}", Text(lag))
    room = f"of {status.buffer_wanted} for an iteration"
    if status.buffer_capacity != status.buffer_wanted:
        room += f", room for {status.buffer_capacity}"
    bar = _bar(status.buffer_fragments / status.buffer_wanted, room)
    yield _BUFFER, _row("buffer", f"{status.buffer_fragments}", bar)
    for link in status.links:
        yield _LINKS, _row(link.name, f"{100 * link.share:.0f} %", _bar(link.share, _of_what(link), "yellow"))
    for failure in status.failures[:2]:
        text = f"environment {failure.last_env} failed ({failure.times}x so far): {_cut(failure.reason, 100)}"
        yield _FAILURES, Text(text, style="red", overflow="fold")
    if status.newest_video is not None and status.newest_video_at is not None:
        age = duration(time.time() - status.newest_video_at)
        name = os.path.relpath(status.newest_video, status.run_dir)
        yield _VIDEO, Text(f"newest video  {name}, {age} ago", overflow="fold")


def _of_what(link: Link) -> str:
    return "of the learner's time" if link.name == "learner" else "of the collectors' time"


def _row(label: str, value: str, rest: RenderableType) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(width=16, overflow="fold")
    grid.add_column(width=11, justify="right", no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_row(Text(label, style="dim"), value, rest)
    return grid


def _bar(share: float, text: str, style: str = "blue") -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(width=24)
    bar = ProgressBar(total=1.0, completed=min(1.0, share), complete_style=style, finished_style=style)
    grid.add_row(bar, Text(text, style="dim"))
    return grid


def _curve(score: Score, options: ConsoleOptions) -> RenderableType:
    if options.ascii_only:
        return Text("")
    return Text(sparkline(score.history, options.max_width - 34), style="cyan", no_wrap=True)


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` small bars, from the least to the greatest."""
    count = max(1, min(width, len(values)))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    least, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(_LEVELS[int((mean - least) / span * 7.999) if span else 0] for mean in means)


def _by_trouble(collectors: Sequence[Collector]) -> list[Collector]:
    return sorted(collectors, key=lambda collector: _TROUBLE_FIRST.index(collector.state))


def _collector_rows(status: Status) -> Iterator[RenderableType]:
    collectors = _by_trouble(status.collectors)
    width = min(_LONGEST_NAME, max((len(collector.name) for collector in collectors), default=0))
    for collector in collectors:
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(width=width, overflow="fold")
        grid.add_column(width=10)
        grid.add_column(ratio=1, overflow="fold")
        grid.add_row(collector.name, Text(collector.state, style=_COLOURS[collector.state]), _seen(collector))
        yield grid


def _seen(collector: Collector) -> str:
    parts = [_cut(collector.detail, _LONGEST_DETAIL)] if collector.detail else []
    if collector.last_fragment_at is not None:
        parts.insert(0, f"last fragment {duration(time.time() - collector.last_fragment_at)} ago")
    return "; ".join(parts)


def _others(collectors: Sequence[Collector], *, some: bool) -> Text:
    counts = Counter(collector.state for collector in collectors)
    more = "more " if some else "collectors "
    return Text(f"{len(collectors)} {more}({', '.join(f'{n} {state}' for state, n in counts.items())})", style="dim")


def _first_that_fit(rows: Sequence[Lines], room: int) -> int:
    """How many of `rows` can be shown, with one line for the others if not all can."""
    if sum(map(len, rows)) <= room:
        return len(rows)
    used = 0
    for number, row in enumerate(rows):
        used += len(row)
        if used > room - 1:
            return number
    return len(rows)


def _with_blanks(groups: Sequence[Lines], room: int) -> Lines:
    """The groups' lines, with a blank line between two where there is room for it."""
    spare = room - sum(map(len, groups))
    lines: Lines = []
    for number, group in enumerate(groups):
        if number and spare > 0:
            lines.append([])
            spare -= 1
        lines += group
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


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
    scores = [f"{score.name} {score.value:.2f}" for score in status.scores[:_SCORES]]
    if status.success_rate is not None:
        scores.append(f"success {100 * status.success_rate:.0f} %")
    numbers = [
        *(scores or ["no episode has ended since the start"]),
        f"{status.env_steps_per_s:.0f} steps/s",
        f"lag {status.lag_versions:.1f}",
    ]
    return f"iteration {status.iteration}/{status.iterations}{left}: {', '.join(numbers)}. {status.headline}"
