"""A run as the page shows it, from the files of its folder: `metrics.csv`, `videos/`, `status.json`."""

from __future__ import annotations

import csv
import math
import re
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from mineonline.processes.join import DONE_FILE
from mineonline.run.folder import CONFIG_FILE, METRICS_FILE, label_of, read_metrics
from mineonline.status import read_status
from mineonline.web.words import in_words

VIDEO_NAME = re.compile(r"(\d+)(?:_([\w.-]+))?\.mp4")
"""Its iteration, and its task if there are several."""
_MOST_POINTS = 400
"""Of a curve: more than a page can show."""
_MOST_VIDEOS = 12


class RunView:
    """Reads the folder again only where it has changed. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metrics_at = (0, 0)
        self._metrics: dict[str, Any] = {"iterations": 0, "latest": {}, "curves": {}, "words": {}}

    def now(self) -> dict[str, Any]:
        """Everything the page shows. What is absent, or half written, is left out."""
        file = self.folder / METRICS_FILE
        self._read_metrics(file)
        return {
            "folder": str(self.folder),
            **self._settings(),
            "done": (self.folder / DONE_FILE).exists(),
            "age_s": _age_s(file),
            "status": self._status(),
            "videos": self._videos(),
            **self._metrics,
        }

    def video(self, name: str) -> Path | None:
        """A video of the run; None if there is none of this name."""
        file = self.folder / "videos" / name
        return file if VIDEO_NAME.fullmatch(name) and file.is_file() else None

    def _read_metrics(self, file: Path) -> None:
        try:
            stat = file.stat()
            if (stat.st_mtime_ns, stat.st_size) != self._metrics_at:
                self._metrics = _summary(read_metrics(file))
                self._metrics_at = (stat.st_mtime_ns, stat.st_size)
        except (OSError, ValueError, KeyError, csv.Error):  # not there yet
            return

    def _settings(self) -> dict[str, Any]:
        try:
            settings = yaml.load((self.folder / CONFIG_FILE).read_text(), yaml.CSafeLoader)
            return {"name": label_of(settings), "total": settings["iterations"]}
        except (OSError, yaml.YAMLError, KeyError, TypeError):
            return {"name": self.folder.name, "total": None}

    def _status(self) -> Any:
        try:
            status = read_status(self.folder)
        except OSError:
            return None
        return None if status is None else msgspec.to_builtins(status)

    def _videos(self) -> list[dict[str, Any]]:
        names = sorted((file.name for file in (self.folder / "videos").glob("*.mp4")), reverse=True)
        found = [match for name in names if (match := VIDEO_NAME.fullmatch(name))]
        return [
            {"name": match[0], "iteration": int(match[1]), "task": in_words(match[2] or "")}
            for match in found[:_MOST_VIDEOS]
        ]


def _summary(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Of each metric: its curve ([iteration, value] pairs), its newest value, and its name in words."""
    kept = rows[:: max(1, math.ceil(len(rows) / _MOST_POINTS))]
    if rows and kept[-1] is not rows[-1]:
        kept.append(rows[-1])
    names = [name for name in (rows[0] if rows else ()) if name != "iteration"]
    curves = {}
    for name in names:
        points = [[int(row["iteration"]), float(row[name])] for row in kept if row[name]]
        curves[name] = [point for point in points if math.isfinite(point[1])]
    return {
        "iterations": int(rows[-1]["iteration"]) if rows else 0,
        "words": {name: in_words(name.removeprefix("episode/")) for name in names},
        "latest": {name: points[-1][1] for name, points in curves.items() if points},
        "curves": curves,
    }


def _age_s(file: Path) -> float | None:
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except OSError:
        return None
