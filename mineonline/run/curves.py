"""Learning curves: of one run (`curve.png`), and of groups of seeds side by side (`mineonline.plot`).

Axes: S seeds, P points along the horizontal axis.
"""

from __future__ import annotations

import difflib
import fnmatch
import glob
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mineonline.errors import ConfigError
from mineonline.run.folder import CONFIG_FILE, METRICS_FILE, label_of, read_metrics, read_settings
from mineonline.run.intervals import mean_interval
from mineonline.run.seeds import groups_of_seeds

if TYPE_CHECKING:  # takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

XAxis = Literal["env_steps", "hours"]
_LABELS = {"env_steps": "decisions", "hours": "hours of training"}
_USUAL = re.compile("episode/(?!length|success).+|task/.+/return")
"""Metrics that are drawn if no others are asked for."""
_PANELS_A_ROW = 4
_POINTS = 300
"""Of a line in a picture: more cannot be seen."""

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """What a run has written so far."""

    folder: Path
    settings: dict[str, Any]
    """As in `config.yaml`."""
    columns: dict[str, Column]
    """Metric -> its value after each iteration, NaN where there is none."""

    def x(self, axis: XAxis) -> Column:
        """Where its points are."""
        if axis == "env_steps":
            return self.columns["env_steps"]
        return np.nancumsum(self.columns["time/iteration_s"]) / 3600

    def line(self, metric: str, axis: XAxis) -> tuple[Column, Column]:
        """The known points of a metric, at most `_POINTS` of them; none if the run lacks the metric."""
        x, y = self.x(axis), self.columns.get(metric, np.full(0, math.nan))
        known = np.flatnonzero(~np.isnan(y))
        shown = known[np.unique(np.linspace(0, len(known) - 1, min(_POINTS, len(known))).astype(int))]
        return x[shown], y[shown]

    def last(self, metric: str) -> float:
        """Its newest known value; NaN if there is none."""
        y = self.line(metric, "env_steps")[1]
        return float(y[-1]) if len(y) else math.nan


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    name: str
    runs: list[Run]

    @property
    def label(self) -> str:
        return self.name if len(self.runs) == 1 else f"{self.name} ({len(self.runs)} seeds)"


def find_runs(words: Sequence[str]) -> list[Run]:
    """The runs that `words` name: run folders, folders of run folders, or patterns. Each once, in order.

    ConfigError if a word names none.
    """
    folders: dict[Path, None] = {}
    for word in words:
        named = [Path(word)] if Path(word).exists() else [Path(path) for path in sorted(glob.glob(word))]
        found = [run for path in named for run in (path, *sorted(path.glob("*")))]
        runs = [run for run in found if _is_run(run)]
        if not runs:
            raise ConfigError(
                f"{word}: there is no run with a {METRICS_FILE} and a {CONFIG_FILE}. Give a run folder, a folder of "
                "run folders, or a pattern such as 'runs/hunt_cow/2026-*'."
            )
        folders.update(dict.fromkeys(run.resolve() for run in runs))
    return [read_run(folder) for folder in folders]


def read_run(folder: Path) -> Run:
    """What is in a run folder. ConfigError if no iteration has ended, or a file cannot be read."""
    rows = read_metrics(folder / METRICS_FILE)
    rows = [row for row in rows if None not in row.values()]  # the last one may be half written
    if not rows:
        raise ConfigError(f"{folder}: no iteration has ended yet.")
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    return Run(folder, read_settings(folder / CONFIG_FILE), columns)


def group(runs: Sequence[Run]) -> list[Group]:
    """Groups of runs that differ only in their seed."""
    named = groups_of_seeds([run.settings for run in runs])
    return [Group(name, [runs[index] for index in members]) for name, members in named.items()]


def choose_metrics(runs: Sequence[Run], patterns: Sequence[str]) -> list[str]:
    """The metrics that match `patterns`; without any, what episodes bring. ConfigError if a pattern matches none."""
    known = list(dict.fromkeys(name for run in runs for name in run.columns))
    if not patterns:
        return [name for name in known if _USUAL.fullmatch(name)]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = fnmatch.filter(known, pattern)
        if not found:
            close = difflib.get_close_matches(pattern, known, n=1, cutoff=0.4)
            hint = f"Did you mean {close[0]}? " if close else ""
            raise ConfigError(f"metrics={pattern}: there is no such metric. {hint}There are: {', '.join(known)}.")
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def title_of(runs: Sequence[Run]) -> str:
    """Which run it is: task, seed and folder. Of several: what they play, and how many there are."""
    played = " and ".join(dict.fromkeys(label_of(run.settings) for run in runs))
    if len(runs) > 1:
        return f"{played}: {len(runs)} runs"
    return f"{played}, seed {runs[0].settings['seed']}, {runs[0].folder.name}"


def draw(groups: Sequence[Group], metrics: Sequence[str], axis: XAxis, title: str) -> Figure:
    """A panel for each metric: a line for a single run; for several seeds their mean with its 95 % interval."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    wide = min(_PANELS_A_ROW, len(metrics))
    high = -(-len(metrics) // wide)
    legend = len(groups) > 1 or len(groups[0].runs) > 1
    size = max(5.0 * wide, 6.0), 3.4 * high + 0.4 + 0.22 * legend * (len(groups) + 1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(high, wide, squeeze=False)
    for panel in panels.flat[len(metrics) :]:
        panel.set_axis_off()
    for panel, metric in zip(panels.flat, metrics, strict=False):
        for number, each in enumerate(groups):
            _draw_group(panel, each, metric, axis, f"C{number % 10}")
        panel.set_xlabel(_LABELS[axis])
        panel.xaxis.set_major_locator(MaxNLocator(6))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.set_title(_explained(metric), fontsize=9)
        panel.grid(alpha=0.3)
    figure.suptitle(title, fontsize=11)
    if legend:
        handles, names = panels.flat[0].get_legend_handles_labels()
        seeds = any(len(each.runs) > 1 for each in groups)
        meaning = "thick: mean of the seeds; shaded: its 95 % interval (Student's t)" if seeds else None
        figure.legend(
            handles, names, title=meaning, loc="outside lower center", fontsize=9, title_fontsize=9, frameon=False
        )
    return figure


def save(figure: Figure, file: Path, kind: Literal["png", "svg"]) -> None:
    """Write the picture, whole or not at all."""
    from matplotlib import rc_context

    from mineonline.atomic import written_whole

    # text stays text: the page is smaller, and its text can be searched
    with written_whole(file) as partial, rc_context({"svg.fonttype": "none"}):
        figure.savefig(partial, dpi=110, format=kind)


def draw_curve(folder: Path, file: Path) -> None:
    """The curve of one run."""
    run = read_run(folder)
    save(draw([Group("", [run])], choose_metrics([run], ()), "env_steps", title_of([run])), file, "png")


def _draw_group(panel: Axes, each: Group, metric: str, axis: XAxis, colour: str) -> None:
    lines = [line for run in each.runs if len((line := run.line(metric, axis))[0])]
    if len(lines) < 2:
        for x, y in lines or [(np.zeros(0), np.zeros(0))]:
            panel.plot(x, y, color=colour, label=each.label, marker=_marker(x))
        return
    for x, y in lines:
        panel.plot(x, y, color=colour, alpha=0.3, linewidth=0.7, marker=_marker(x))
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if end <= start:  # no point of the axis has been reached by all seeds
        panel.plot([], [], color=colour, label=each.label)
        return
    x_P = np.linspace(start, end, _POINTS)
    y_SP = np.array([np.interp(x_P, x, y) for x, y in lines])
    intervals = [mean_interval(y_S) for y_S in y_SP.T]
    panel.plot(x_P, [interval.mean for interval in intervals], color=colour, linewidth=2, label=each.label)
    low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
    panel.fill_between(x_P, low, high, color=colour, alpha=0.2, linewidth=0)


def _marker(x: NDArray[np.float64]) -> str | None:
    """A line through a single point would not be seen."""
    return "o" if len(x) == 1 else None


def _explained(metric: str) -> str:
    if not _USUAL.fullmatch(metric):
        return metric
    return f"{metric.removeprefix('episode/').removeprefix('task/')} per episode (mean of the last 100)"


def _is_run(folder: Path) -> bool:
    return (folder / METRICS_FILE).is_file() and (folder / CONFIG_FILE).is_file()
