"""A learner of the user's own: `learner._target_=tests.helpers.recomputed_ppo.RecomputedPPO`.

It treats stale fragments as MineStudio does: the old log-probability is recomputed with the current weights, so
fragments of any age count as fresh.
"""

from __future__ import annotations

from torch import Tensor

from mineonline.learning.module import PPO
from mineonline.learning.objective import clipped_surrogate
from mineonline.learning.sequences import Sequences


class RecomputedPPO(PPO):
    def surrogate(self, log_prob_BT: Tensor, part: Sequences) -> tuple[Tensor, Tensor]:
        ratio_BT = (log_prob_BT - part.proximal_log_prob_BT).exp()
        return clipped_surrogate(ratio_BT, part.advantage_BT, self.objective.clip), ratio_BT
