"""What a person sees while it runs: a bar in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time

import lightning
from tqdm import tqdm

from mineonline.callbacks.statistics import Statistics
from mineonline.learning.module import PPO

_LINE_EVERY_S = 10.0


class Progress(lightning.Callback):
    """Return, env steps/s, lag and the bottleneck after each iteration."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._bar: tqdm[object] | None = None
        self._last_line = 0.0

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
            self._bar.set_postfix_str("waiting for the first fragments (the first run on a machine compiles the world)")

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

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _text(self, trainer: lightning.Trainer) -> str:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        episodes = [f"{name.removeprefix('episode/')} {metrics[name]:.2f}" for name in self._statistics.headlines]
        return ", ".join(
            [
                *episodes,
                f"{metrics['env_steps_per_s']:.0f} steps/s",
                f"lag {metrics['lag_versions']:.1f}",
                f"bottleneck: {self._statistics.bottleneck}",
            ]
        )
