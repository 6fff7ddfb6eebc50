"""Checkpoints that are whole or absent: written under a temporary name, and renamed when they are complete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning
from lightning.fabric.plugins import TorchCheckpointIO

from mineonline.callbacks.iteration import IterationCallback
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own checkpoint writer, on a temporary file that is renamed when it is complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = final.with_name(f".{final.name}.{os.getpid()}")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(final)


class SaveCheckpoints(IterationCallback):
    """Saves `last.ckpt` every `every` iterations and at the end, and `<iteration>.ckpt` every `keep_every`."""

    def __init__(self, folder: Path, *, every: int, keep_every: int) -> None:
        self._folder = folder
        self._every = every
        self._keep_every = keep_every
        self._is_new = False
        """An iteration has ended since the last `save_due`."""
        self._saved_iteration = -1

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        self._is_new = True

    def save_due(self, trainer: lightning.Trainer) -> None:
        """Save what is due. All ranks call it together, between two iterations.

        Not done in `iteration_ended`, because Lightning writes the iteration's metrics after that: a trainer killed in
        between would resume after an iteration whose metrics are missing.
        """
        learner = trainer.lightning_module
        assert isinstance(learner, PPO)
        if not self._is_new:
            return
        self._is_new = False
        if learner.iteration % self._every == 0:
            self._save_last(trainer, learner)
        if self._keep_every and learner.iteration % self._keep_every == 0:
            trainer.save_checkpoint(self._folder / f"{learner.iteration:06d}.ckpt")

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self.save_due(trainer)
        if learner.iteration != self._saved_iteration:
            self._save_last(trainer, learner)

    def _save_last(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._saved_iteration = learner.iteration
        trainer.save_checkpoint(self._folder / "last.ckpt")
