"""A user's callback, given on the command line: sets a reward to NaN after it has arrived."""

from __future__ import annotations

import lightning


class Poison(lightning.Callback):
    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.first <= pl_module.iteration < self.last:
            batch.fragments.reward_BT[0, 0] = float("nan")
