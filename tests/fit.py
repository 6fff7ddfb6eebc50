"""The learner under Lightning, on shares that a test gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning

from mineonline.callbacks.checkpoints import AtomicCheckpointIO
from mineonline.experience.buffer import Arrivals, Share
from mineonline.experience.datamodule import Iterations
from mineonline.fragment import Fragments
from mineonline.learning.module import PPO


def fresh(fragments: Fragments) -> Share:
    """A share that just arrived."""
    count = len(fragments)
    return Share(fragments, [0] * count, [0] * count, 0.0, Arrivals())


def fit(
    learner: PPO, take: Callable[[], Share], iterations: int, folder: Path, *, checkpoint: Path | None = None,
    **trainer_settings,
) -> PPO:  # fmt: skip
    """Learn from what `take` gives, up to `iterations`."""
    settings = {
        "max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "accelerator": "cpu", "devices": 1, "default_root_dir": folder,
        "plugins": [AtomicCheckpointIO()], **trainer_settings,
    }  # fmt: skip
    shares = Iterations(take, lambda stop: stop, lambda: None, iterations)
    lightning.Trainer(**settings).fit(learner, train_dataloaders=shares, ckpt_path=checkpoint, weights_only=True)
    return learner
