"""What the user sees during a run: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lightning
from tqdm import tqdm

from mineonline.callbacks.iteration import IterationCallback
from mineonline.callbacks.statistics import Statistics
from mineonline.envs.failures import one_line
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO
from mineonline.processes.logs import MESSAGE

log = logging.getLogger(__name__)

_LINE_EVERY_S = 10.0
_MOST_REASONS = 20
"""To show: some texts contain numbers, and never end."""


class Progress(IterationCallback):
    """Shows what collectors do until the first fragments arrive; then return, env steps/s, lag and the bottleneck.

    Every rank shows why environments failed, as far as it was told, each reason once.
    """

    def __init__(self, statistics: Statistics, logs: Path, joined: Callable[[], int]) -> None:
        """`logs`: folder of the collectors' logs. `joined`: how many collectors have joined, from all machines."""
        self._statistics = statistics
        self._folder = logs
        self._logs = NewMessages(logs)
        self._reasons: set[str] = set()
        """Why environments failed, as shown so far."""
        self._joined = joined
        self._bar: tqdm[object] | None = None
        self._last_line = 0.0
        self._first_batch = threading.Event()
        self._waiting = threading.Thread(target=self._show_start, name="progress", daemon=True)

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=learner.iterations,
                initial=learner.iteration,
                unit="it",
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}",
            )
        self._waiting.start()

    def batch_taken(self) -> None:
        self._end_waiting()

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        self._show_failures(batch)
        if not trainer.is_global_zero:
            return
        text = self._text(trainer)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(f"iteration {learner.iteration}/{learner.iterations}: {text}", file=sys.stderr, flush=True)

    def _show_failures(self, batch: Batch) -> None:
        for failure in batch.arrivals.reasons:
            reason = one_line(failure.reason)  # another machine's words
            if reason in self._reasons or len(self._reasons) > _MOST_REASONS:
                continue
            self._reasons.add(reason)
            if self._bar is not None:
                self._bar.clear()
            if len(self._reasons) > _MOST_REASONS:
                log.warning(
                    "environments fail for more and more reasons; no others are shown here. See %s", self._folder
                )
            else:
                log.warning(
                    "environment %d failed: %s; its episode was cut, it starts anew. Full traceback: %s. More failures "
                    "for this reason are only counted.",
                    failure.env, reason, self._folder,
                )  # fmt: skip

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._close()

    def failed(self) -> None:
        self._close()

    def _show_start(self) -> None:
        """Runs in a thread: the training loop waits for the first fragments, for minutes if engines have to start."""
        started_at = time.monotonic()
        while not self._first_batch.wait(_LINE_EVERY_S if self._bar is None else 1.0):
            news = self._logs.newest() or f"collectors that have joined: {self._joined()}"
            if self._bar is not None:
                self._bar.set_postfix_str(f"waiting for fragments ({news})")
            else:
                waited_s = time.monotonic() - started_at
                print(f"waiting for fragments, {waited_s:.0f} s ({news})", file=sys.stderr, flush=True)

    def _end_waiting(self) -> None:
        self._first_batch.set()
        if self._waiting.is_alive():
            self._waiting.join(2.0)

    def _close(self) -> None:
        self._end_waiting()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, trainer: lightning.Trainer) -> str:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        episodes = [
            f"{name.removeprefix('episode/').removeprefix('task/')} {metrics[name]:.2f}"
            for name in self._statistics.headlines
            if not math.isnan(metrics[name])
        ]
        return ", ".join(
            [
                *(episodes or ["no episode has ended since the start"]),
                f"{metrics['env_steps_per_s']:.0f} steps/s",
                f"lag {metrics['lag_versions']:.1f}",
                f"bottleneck: {self._statistics.bottleneck}",
            ]
        )


class NewMessages:
    """What collectors and their workers write to their logs from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {file: file.stat().st_size for file in self._files()}
        """Bytes that were there before, if the run was resumed."""

    def newest(self) -> str:
        """The last message in the most recently written log that has one, with the log's name; empty if none has."""
        for file in sorted(self._files(), key=lambda file: file.stat().st_mtime, reverse=True):
            with file.open("rb") as source:
                source.seek(self._known.get(file, 0))
                messages = MESSAGE.findall(source.read().decode(errors="replace"))
            if messages:
                return f"{file.stem}: {messages[-1]}"
        return ""

    def _files(self) -> list[Path]:
        return list(self._folder.glob("collector-*.log"))
