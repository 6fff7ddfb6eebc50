"""The learner under Lightning, on batches that a test gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning

from mineonline.callbacks.checkpoints import AtomicCheckpointIO, SaveCheckpoints
from mineonline.experience.buffer import Arrivals, Batch
from mineonline.experience.datamodule import Iterations
from mineonline.fragment import Fragments
from mineonline.learning.module import PPO


def fresh(fragments: Fragments) -> Batch:
    """A batch that just arrived."""
    count = len(fragments)
    return Batch(fragments, [0] * count, [0] * count, 0.0, Arrivals())


def fit(
    learner: PPO, take: Callable[[], Batch], iterations: int, folder: Path, *, checkpoint: Path | None = None,
    **trainer_settings,
) -> PPO:  # fmt: skip
    """Learn from what `take` gives, up to `iterations`."""
    settings = {
        "max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "devices": 1, "default_root_dir": folder,
        "plugins": [AtomicCheckpointIO()], **trainer_settings,
    }  # fmt: skip
    trainer = lightning.Trainer(**settings)

    def take_next() -> Batch:
        for callback in trainer.callbacks:
            if isinstance(callback, SaveCheckpoints):
                callback.save_due(trainer)
        return take()

    batches = Iterations(take_next, lambda stop: stop, iterations)
    trainer.fit(learner, train_dataloaders=batches, ckpt_path=checkpoint, weights_only=True)
    return learner
