"""Checkpoints that are whole or absent: written beside their place and renamed into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins import TorchCheckpointIO

from mineonline.learning.module import PPO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own writing of checkpoints, to a temporary file that is renamed when it is complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.{os.getpid()}")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(final)


class SaveCheckpoints(lightning.Callback):
    """Saves `last.ckpt` every `every` iterations and after the last, and `<iteration>.ckpt` every `keep_every`."""

    def __init__(self, folder: Path, *, every: int, keep_every: int) -> None:
        self._folder = folder
        self._every = every
        self._keep_every = keep_every
        self._saved_iteration = -1

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PPO)
        iteration = pl_module.iteration
        if iteration % self._every == 0 or iteration == pl_module.iterations:
            self.save(trainer)
        if self._keep_every and iteration % self._keep_every == 0:
            trainer.save_checkpoint(self._folder / f"{iteration:06d}.ckpt")

    def save(self, trainer: lightning.Trainer) -> None:
        """Save `last.ckpt`; all ranks together."""
        assert isinstance(trainer.lightning_module, PPO)
        self._saved_iteration = trainer.lightning_module.iteration
        trainer.save_checkpoint(self._folder / "last.ckpt")

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PPO)
        if pl_module.iteration != self._saved_iteration:  # ended by Lightning: max_steps, max_time or a callback
            self.save(trainer)
