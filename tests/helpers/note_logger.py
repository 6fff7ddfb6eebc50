"""A logger of a user's own, which keeps all that it is given, as services do."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

from lightning.pytorch.loggers import Logger


class Notes(Logger):
    """Appends to `<folder>/<run id>.jsonl`. `fails_at`: a step that it does not take."""

    name = "notes"
    version = ""

    def __init__(self, folder: str, run_id: str | None = None, fails_at: int = -1) -> None:
        super().__init__()
        self.version = run_id or uuid4().hex
        self.fails_at = fails_at
        self._file = Path(folder) / f"{self.version}.jsonl"
        self._file.parent.mkdir(exist_ok=True)

    def _note(self, **said) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(said) + "\n")

    def log_hyperparams(self, params, *args, **kwargs):
        self._note(params=params)

    def log_metrics(self, metrics, step=None):
        if step == self.fails_at:
            raise ConnectionError("the service is down")
        self._note(step=step, metrics=metrics)

    def log_video(self, key, videos, step):
        self._note(video=videos[0], key=key, step=step)
