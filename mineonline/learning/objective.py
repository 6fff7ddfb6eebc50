"""What PPO minimises.

Axes: B fragments, T rows. Rows without a decision are not counted.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    """Scalars; `total` is what is minimised, the rest is for the log."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    approximate_kl: Tensor
    """KL(behaviour || learner), estimated as mean(ratio - 1 - log ratio) (Schulman 2020, k3), in nats."""
    clip_fraction: Tensor
    """Share of rows whose ratio left the clip range."""


def ppo_losses(
    log_prob_BT: Tensor,
    behaviour_log_prob_BT: Tensor,
    advantage_BT: Tensor,
    value_BT: Tensor,
    return_BT: Tensor,
    entropy_BT: Tensor,
    decided_BT: Tensor,
    *,
    clip: float,
    value_coef: float,
    entropy_coef: float,
) -> Losses:
    """Clipped surrogate, squared value error and entropy bonus (Schulman et al. 2017, eq. 7 and 9).

    The ratio is against the policy that acted, however old its weights are. `decided_BT` (bool) marks the rows that
    hold a decision.
    """
    weight_BT = decided_BT.float() / decided_BT.sum().clamp(min=1)

    def mean(x_BT: Tensor) -> Tensor:
        return (x_BT * weight_BT).sum()

    # the clamp keeps a far-off row from overflowing; e^20 is far outside any clip range
    log_ratio_BT = (log_prob_BT - behaviour_log_prob_BT).clamp(-20.0, 20.0)
    ratio_BT = log_ratio_BT.exp()
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    policy = -mean(torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT))
    value = 0.5 * mean((value_BT - return_BT) ** 2)
    entropy = mean(entropy_BT)
    with torch.no_grad():
        approximate_kl = mean(ratio_BT - 1 - log_ratio_BT)
        clip_fraction = mean(((ratio_BT - 1).abs() > clip).float())
    total = policy + value_coef * value - entropy_coef * entropy
    return Losses(total, policy.detach(), value.detach(), entropy.detach(), approximate_kl, clip_fraction)
