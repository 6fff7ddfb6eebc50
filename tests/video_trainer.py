"""A Lightning training that does nothing but count iterations and record videos.

python -m tests.video_trainer <run folder> <iterations> <every> <seconds an iteration>
"""

import sys
import time
from pathlib import Path

import lightning

from mineonline.callbacks.videos import RecordVideos
from mineonline.envs.build import env_spec
from mineonline.learning.module import PPO
from mineonline.policies.build import build_policy
from mineonline.run_folder import read_config
from mineonline.stopping import StopRequest


class Counting(PPO):
    """Learns nothing; `on_iteration(version)` is called in each one."""

    def __init__(self, config, iterations, on_iteration):
        super().__init__(
            build_policy(config, env_spec(config)), config.objective, config.optimizer, iterations,
            seed=config.seed, bad_batch_file=Path(config.run_dir or ".") / "bad_batch.pt",
        )  # fmt: skip
        self.on_iteration = on_iteration

    def training_step(self, batch, batch_idx):
        self.policy.version += 1
        self.on_iteration(self.version)


def train(run_dir: Path, *, iterations: int, every: int, on_iteration, stop: StopRequest | None = None) -> RecordVideos:
    """Run all iterations; gives the callback back."""
    config = read_config(run_dir / "config.yaml", run_dir / "config.yaml")
    videos = RecordVideos(run_dir, every, stop or StopRequest())
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[videos],
    )  # fmt: skip
    trainer.fit(Counting(config, iterations, on_iteration), train_dataloaders=range(iterations))
    return videos


if __name__ == "__main__":
    folder, iterations, every, pause_s = sys.argv[1:]
    train(Path(folder), iterations=int(iterations), every=int(every), on_iteration=lambda _: time.sleep(float(pause_s)))
