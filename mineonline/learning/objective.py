"""What PPO minimises.

Axes: B sequences, T rows. Rows without a decision are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Losses(NamedTuple):
    """Means over the rows with a decision; `total` is what is minimised, the rest is for the log."""

    total: Tensor
    policy: Tensor
    value: Tensor
    """In units of the returns' variance, if values are normalised."""
    entropy: Tensor
    """Nats."""
    reference_kl: Tensor
    """KL(policy || reference), nats; 0 without a reference."""
    cloning: Tensor
    """Of recorded fragments, weighted; 0 without."""
    approximate_kl: Tensor
    """KL(behaviour || policy), estimated as mean(ratio - 1 - log ratio) (Schulman 2020, k3), nats."""
    clip_fraction: Tensor
    """Share of rows whose ratio left the clip range."""

    def detach(self) -> Losses:
        """Without the graph."""
        return Losses(*(loss.detach() for loss in self))


@dataclass(frozen=True)
class Rows:
    """Averages over the rows that hold a decision, of a part of a minibatch."""

    decided_BT: Tensor
    """bool."""
    decisions: Tensor
    """In the whole minibatch."""

    def mean(self, x_BT: Tensor) -> Tensor:
        """The part's share of the minibatch's mean, so that the shares of all parts add up to it."""
        return torch.where(self.decided_BT, x_BT, 0.0).sum() / self.decisions.clamp(min=1)


def clamped_exp(log_ratio_BT: Tensor, limit: float) -> Tensor:
    """exp, of what is clamped to ± `limit`."""
    return log_ratio_BT.clamp(-limit, limit).exp()


def importance_weight(target_BT: Tensor, behaviour_BT: Tensor, *, largest: float, log_ratio_max: float) -> Tensor:
    """min(`largest`, target / behaviour) of log-probabilities, without gradient (Espeholt et al. 2018, ρ and c)."""
    return clamped_exp((target_BT - behaviour_BT).detach(), log_ratio_max).clamp(max=largest)


def clipped_surrogate(ratio_BT: Tensor, advantage_BT: Tensor, clip: float) -> Tensor:
    """Loss of every row (Schulman et al. 2017, eq. 7, negated)."""
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)


def value_loss(value_BT: Tensor, return_BT: Tensor, old_value_BT: Tensor, deviation: Tensor, clip: float) -> Tensor:
    """Half the squared error of every row, in units of the returns' variance.

    With `clip`, in units of their deviation, the larger of that and the error of the value that is kept within `clip`
    of the old one: what goes further gains nothing (Schulman et al., the value clipping of OpenAI's baselines).
    """
    error_BT = ((value_BT - return_BT) / deviation) ** 2
    if clip:
        near_BT = old_value_BT + (value_BT - old_value_BT).clamp(-clip * deviation, clip * deviation)
        error_BT = torch.maximum(error_BT, ((near_BT - return_BT) / deviation) ** 2)
    return 0.5 * error_BT
