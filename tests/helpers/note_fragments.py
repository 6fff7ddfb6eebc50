"""A user's callback: writes which fragments each rank learnt from, in order, to `<folder>/rank-<rank>.bin`."""

from __future__ import annotations

from pathlib import Path

import lightning
import torch


class NoteFragments(lightning.Callback):
    """Rows of (environment, sequence number) as int64."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_start(self, trainer, pl_module):
        self.file = (self.folder / f"rank-{trainer.global_rank}.bin").open("wb")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.file.write(torch.stack([batch.fragments.env_B, batch.fragments.sequence_B], 1).numpy().tobytes())

    def on_train_end(self, trainer, pl_module):
        self.file.close()
