"""An objective and a callback of your own: dual-clip PPO (Ye et al. 2020, eq. 5), and a line about each iteration.

python -m mineonline.train learner._target_=examples.own_learner.DualClipPPO 'callbacks=[{_target_: examples.own_learner.PrintAdvantages, every: 10}]'
"""  # noqa: E501 one command

import lightning
import torch

from mineonline import PPO, Batch, IterationOutput

WORST = 3.0
"""No row costs more than this multiple of its advantage, however much more probable its action has become."""


class DualClipPPO(PPO):
    def surrogate(self, log_prob_BT, part):
        loss_BT, ratio_BT = super().surrogate(log_prob_BT, part)
        bad_BT = part.advantage_BT < 0
        return torch.where(bad_BT, loss_BT.clamp(max=-WORST * part.advantage_BT), loss_BT), ratio_BT


class PrintAdvantages(lightning.Callback):
    def __init__(self, every: int):
        self.every = every

    def on_train_batch_end(self, trainer, pl_module, outputs: IterationOutput, batch: Batch, batch_idx):
        if pl_module.iteration % self.every == 0 and trainer.is_global_zero:
            lag = sum(batch.lag_B) / len(batch.lag_B)
            returns = outputs["return_BT"][~batch.fragments.idle_BT]
            print(f"iteration {pl_module.iteration}: mean return to go {returns.mean():.2f}, lag {lag:.1f}", flush=True)
