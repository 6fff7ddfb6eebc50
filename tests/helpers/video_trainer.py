"""A Lightning training run that only counts iterations and records videos.

python -m tests.helpers.video_trainer <run folder> <iterations> <every> <seconds per iteration>
"""

import sys
import time
from functools import partial
from pathlib import Path

import lightning
import msgspec

from mineonline.callbacks.videos import RecordVideos
from mineonline.envs.build import env_spec
from mineonline.learning.module import PPO
from mineonline.processes.stopping import StopRequest
from mineonline.run.folder import read_config
from mineonline.run.learner import build_learner


class Counting(PPO):
    """Learns nothing; `on_iteration(iteration)` is called in each one."""

    def __init__(self, *arguments, on_iteration, **settings):
        super().__init__(*arguments, **settings)
        self.on_iteration = on_iteration

    def training_step(self, batch, batch_idx):
        self.iteration += 1
        self.on_iteration(self.iteration)


def train(run_dir: Path, *, iterations: int, every: int, on_iteration, stop: StopRequest | None = None) -> RecordVideos:
    """Run all iterations; returns the callback."""
    videos = RecordVideos(run_dir, run_dir / "config.yaml", every, stop or StopRequest())
    fit(run_dir, videos, iterations=iterations, on_iteration=on_iteration)
    return videos


def fit(run_dir: Path, callback: lightning.Callback, *, iterations: int, on_iteration) -> None:
    """Run all iterations with one callback."""
    config = read_config(run_dir / "config.yaml", run_dir / "config.yaml")
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
    )  # fmt: skip
    learner = build_learner(
        msgspec.structs.replace(config, iterations=iterations), env_spec(config.env, config.task),
        bad_batch_file=run_dir / "bad.pt",
        learner_class=partial(Counting, on_iteration=on_iteration),
    )  # fmt: skip
    trainer.fit(learner, train_dataloaders=range(iterations))


if __name__ == "__main__":
    folder, iterations, every, pause_s = sys.argv[1:]
    train(Path(folder), iterations=int(iterations), every=int(every), on_iteration=lambda _: time.sleep(float(pause_s)))
