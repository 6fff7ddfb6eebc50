"""What a person sees while it runs: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from pathlib import Path

import lightning
from tqdm import tqdm

from mineonline.callbacks.statistics import Statistics
from mineonline.learning.module import PPO
from mineonline.processes import tail

_LINE_EVERY_S = 10.0
_MESSAGE = re.compile(r" (?:INFO|WARNING|ERROR) (.+)")


class Progress(lightning.Callback):
    """Until the first fragments are there, what collectors do; then return, env steps/s, lag and the bottleneck."""

    def __init__(self, statistics: Statistics, logs: Path) -> None:
        """`logs`: folder of the collectors' log files."""
        self._statistics = statistics
        self._logs = logs
        self._bar: tqdm[object] | None = None
        self._last_line = 0.0
        self._first_batch = threading.Event()
        self._waiting = threading.Thread(target=self._tell_of_the_start, name="progress", daemon=True)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PPO)
        if trainer.is_global_zero and sys.stderr.isatty():
            self._bar = tqdm(
                total=pl_module.iterations,
                initial=pl_module.iteration,
                unit="it",
                dynamic_ncols=True,
                bar_format="{desc}{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}",
            )
        if trainer.is_global_zero:
            self._waiting.start()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self._end_waiting()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PPO)
        if not trainer.is_global_zero:
            return
        text = self._text(trainer)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(f"iteration {pl_module.iteration}/{pl_module.iterations}: {text}", file=sys.stderr, flush=True)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _tell_of_the_start(self) -> None:
        """In a thread: the training loop waits for the first fragments, which takes engines minutes."""
        began, began_at = time.monotonic(), time.time()
        while not self._first_batch.wait(_LINE_EVERY_S if self._bar is None else 1.0):
            message = newest_message(self._logs, began_at)
            news = f" (collector: {message})" if message else ""
            if self._bar is not None:
                self._bar.set_postfix_str(f"waiting for fragments{news}")
            else:
                print(f"waiting for fragments, {time.monotonic() - began:.0f} s{news}", file=sys.stderr, flush=True)

    def _end_waiting(self) -> None:
        self._first_batch.set()
        if self._waiting.is_alive():
            self._waiting.join()

    def _close(self) -> None:
        self._end_waiting()
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, trainer: lightning.Trainer) -> str:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        episodes = [
            f"{name.removeprefix('episode/')} {metrics[name]:.2f}"
            for name in self._statistics.headlines
            if not math.isnan(metrics[name])
        ]
        return ", ".join(
            [
                *(episodes or ["no episode has ended"]),
                f"{metrics['env_steps_per_s']:.0f} steps/s",
                f"lag {metrics['lag_versions']:.1f}",
                f"bottleneck: {self._statistics.bottleneck}",
            ]
        )


def newest_message(logs: Path, since: float) -> str:
    """What the collectors' logs say in their last line; empty if none was written to since that time (epoch, s)."""
    files = [(file.stat().st_mtime, file) for file in logs.glob("collector-*.log")]
    for _, file in sorted(((at, file) for at, file in files if at >= since), reverse=True):
        messages = _MESSAGE.findall(tail(file, lines=200))
        if messages:
            return str(messages[-1])
    return ""
