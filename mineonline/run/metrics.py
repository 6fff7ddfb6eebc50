"""`metrics.csv`: one row per iteration, on disk as soon as the iteration ends."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

STEP = "iteration"


class MetricsFile(Logger):
    """A Lightning logger. On a resume, it drops the rows of iterations that will be done again.

    A metric that first appears later adds a column, and the file is rewritten.
    """

    def __init__(self, file: Path, *, resume_at: int) -> None:
        super().__init__()
        self._file = file
        self._columns: list[str] = []
        if file.exists():
            rows = read_metrics(file)
            self._columns = list(rows[0]) if rows else []
            self._rewrite([row for row in rows if int(row[STEP]) <= resume_at])

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
        row = {STEP: (step or 0) + 1, **{name: f"{value:.6g}" for name, value in metrics.items() if name != "epoch"}}
        fresh = [name for name in row if name not in self._columns]
        if fresh:
            rows = read_metrics(self._file) if self._file.exists() else []
            self._columns += fresh
            self._rewrite(rows)
        with self._file.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        partial = self._file.with_name(f".{self._file.name}")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self._file)


def read_metrics(file: Path) -> list[dict[str, str]]:
    """The rows of a metrics file: column -> text."""
    with file.open(newline="") as source:
        return list(csv.DictReader(source))
