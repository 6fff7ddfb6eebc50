"""`metrics.csv`: one row per iteration, on disk as soon as the iteration ends."""

from __future__ import annotations

import csv
import difflib
import logging
import math
import os
import statistics
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mineonline.atomic import written_whole
from mineonline.errors import ConfigError
from mineonline.run.folder import read_metrics

log = logging.getLogger(__name__)

STEP = "iteration"


class MetricsFile(Logger):
    """A Lightning logger. On a resume, it drops the rows of iterations that will be done again.

    A metric that first appears later adds a column, and the file is rewritten. Rows that cannot be written (a full
    disk) wait in memory, and are written as soon as that is possible again.
    """

    def __init__(self, file: Path, *, resume_at: int) -> None:
        super().__init__()
        self._file = file
        self._columns: list[str] = []
        self._waiting: list[dict[str, str]] = []
        self._without_step: dict[str, str] = {}
        self.logged = 0
        """The last iteration that was logged before this session."""
        self.env_steps = 0
        """Decisions of the iterations that the run continues from."""
        if file.exists():
            rows = read_metrics(file)
            kept = [row for row in rows if int(row[STEP]) <= resume_at]
            self._columns = list(rows[0]) if rows else []
            self._rewrite(self._columns, kept)
            self.logged = int(rows[-1][STEP]) if rows else 0
            self.env_steps = int(float(kept[-1]["env_steps"])) if kept and "env_steps" in kept[-1] else 0

    @property
    def name(self) -> str:
        """Required by Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Required by Lightning."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: `config.yaml` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Without a step: as part of the next iteration's row."""
        values = {name: f"{value:.6g}" for name, value in metrics.items() if name != "epoch"}
        if step is None:
            self._without_step |= values
            return
        self._waiting.append({STEP: str(step), **self._without_step, **values})
        self._without_step = {}
        behind = len(self._waiting) > 1
        try:
            self._write_waiting()
        except OSError as error:
            if not behind:
                log.warning("%s cannot be written (%s): its rows wait in memory.", self._file, error.strerror)
            return
        if behind:
            log.warning("%s is written again, with the rows that waited.", self._file)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._waiting:
            log.warning("%s lacks the last %d rows, which could not be written.", self._file, len(self._waiting))
        if self._without_step:
            names = ", ".join(self._without_step)
            log.warning("%s lacks %s, logged without a step after the last iteration.", self._file, names)

    def _write_waiting(self) -> None:
        names = dict.fromkeys(name for row in self._waiting for name in row)
        fresh = [name for name in names if name not in self._columns]
        if fresh or not self._file.exists():
            rows = read_metrics(self._file) if self._file.exists() else []
            columns = [*self._columns, *fresh]
            self._rewrite(columns, [*rows, *self._waiting])
            self._columns = columns
        else:
            self._append()
        self._waiting.clear()

    def _append(self) -> None:
        size = self._file.stat().st_size
        try:
            with self._file.open("a", newline="") as file:
                csv.DictWriter(file, self._columns, restval="").writerows(self._waiting)
        except OSError:
            os.truncate(self._file, size)  # a full disk took half a row
            raise

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        with written_whole(self._file) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def mean_of_last(file: Path, name: str, last: int) -> float:
    """Mean of a metric over the last so many iterations, without those in which it is NaN; NaN if it is in all.

    ConfigError if no such metric was logged.
    """
    rows = read_metrics(file)
    columns = list(rows[-1])
    if name not in columns:
        close = difflib.get_close_matches(name, columns, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"sweep.metric={name}: this run has not logged it.{hint} There are: {', '.join(columns)}.")
    values = [float(row[name]) for row in rows[-last:] if row[name] not in ("", "nan")]
    return statistics.fmean(values) if values else math.nan
