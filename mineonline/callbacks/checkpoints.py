"""Checkpoints that are whole or absent, and what happens when one cannot be saved."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mineonline.atomic import written_whole
from mineonline.callbacks.iteration import IterationCallback
from mineonline.errors import CheckpointError
from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints, each written to a temporary file that is renamed when it is complete.

    Lightning's own writer needs twice the checkpoint's size in memory; this one writes tensor by tensor.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """CheckpointError if it cannot be written: then what was there before is still there."""
        final = Path(path)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(final) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
        except OSError as error:
            raise CheckpointError(
                f"{final} cannot be saved ({error.strerror}); what was saved before is intact."
            ) from None


class SaveCheckpoints(IterationCallback):
    """Saves `last.ckpt` every `every` iterations and at the end, and `<iteration>.ckpt` every `keep_every`.

    A save that fails ends training with a CheckpointError, or with `on_error="continue"` is reported and counted (the
    metric `checkpoint_failures`). At the end it is always an error.
    """

    def __init__(
        self, folder: Path, *, every: int, keep_every: int, on_error: Literal["continue", "stop"] = "stop"
    ) -> None:
        self._folder = folder
        self._every = every
        self._keep_every = keep_every
        self._on_error = on_error
        self._is_new = False
        """An iteration has ended since the last `save_due`."""
        self._saved_iteration = -1
        self.failures = 0

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        self._is_new = True
        learner.log("checkpoint_failures", float(self.failures), batch_size=1)

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
            self._save(trainer, f"{learner.iteration:06d}.ckpt")

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._on_error = "stop"  # what cannot be saved now is lost
        self.save_due(trainer)
        if learner.iteration != self._saved_iteration:
            self._save_last(trainer, learner)

    def _save_last(self, trainer: lightning.Trainer, learner: PPO) -> None:
        if self._save(trainer, "last.ckpt"):
            self._saved_iteration = learner.iteration

    def _save(self, trainer: lightning.Trainer, name: str) -> bool:
        """Whether rank 0, which writes, could save it; the same on all ranks."""
        run_dir = self._folder.parent
        reason = None
        try:
            # if it was made again, a run without its settings would be in it
            if trainer.is_global_zero and not run_dir.is_dir():
                raise CheckpointError(f"{self._folder / name} cannot be saved: the run folder is gone.")
            trainer.save_checkpoint(self._folder / name)
        except CheckpointError as error:
            reason = str(error)
            trainer.strategy.barrier("Trainer.save_checkpoint")  # where the other ranks wait for this one
        if trainer.strategy.reduce_boolean_decision(reason is None):
            return True
        if self._on_error == "stop":
            if reason is None:
                raise SystemExit(1)  # rank 0 says why
            cure = f" Continue with checkpoint={run_dir} when files can be written." if run_dir.is_dir() else ""
            raise CheckpointError(f"{reason}{cure}")
        self.failures += 1
        if reason is not None:
            log.warning(
                "%s Training goes on, and tries again when the next is due (failure %d).", reason, self.failures
            )
        return False
