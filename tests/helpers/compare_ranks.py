"""A user's callback, given on the command line: says after each iteration whether all ranks agree."""

from __future__ import annotations

import lightning
import torch


class CompareRanks(lightning.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        mine = torch.cat([tensor.detach().double().reshape(-1) for tensor in pl_module.state_dict().values()])
        envs = batch.fragments.env_B * 10_000 + batch.fragments.sequence_B
        identical = all(torch.equal(mine, other) for other in gather(trainer, mine))
        batches = gather(trainer, envs)
        differ = not set(batches[0].tolist()) & set(batches[1].tolist())
        if trainer.is_global_zero:
            print(f"ranks identical: {identical}, batches differ: {differ}", flush=True)


def gather(trainer, tensor):
    everyone = [torch.empty_like(tensor) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(everyone, tensor)
    return everyone
