"""Lightning's hooks in the terms of a run, for the built-in callbacks. An iteration is one batch of Lightning's."""

from __future__ import annotations

import lightning

from mineonline.experience.buffer import Batch
from mineonline.learning.module import PPO


class IterationCallback(lightning.Callback):
    """A subclass overrides what it needs of the methods below; all ranks call them together."""

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        """Before the first batch is taken; after Lightning has set its signal handlers."""

    def batch_taken(self) -> None:
        """The learner has its batch, and starts to learn from it."""

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        """The learner has learnt from `batch`, and counted the iteration."""

    def ended(self, trainer: lightning.Trainer, learner: PPO) -> None:
        """After the last iteration, or when asked to stop."""

    def failed(self) -> None:
        """An exception ends training; `ended` is not called."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PPO)
        self.started(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.batch_taken()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, PPO)
        self.iteration_ended(trainer, pl_module, batch)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, PPO)
        self.ended(trainer, pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        self.failed()
