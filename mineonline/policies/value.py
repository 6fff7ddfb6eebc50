"""The value of a state, predicted in normalised units and returned in units of reward.

Axes: B sequences, T rows, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mineonline.policies.heads import orthogonal_

_SMALLEST_VARIANCE = 1e-4


class ValueHead(nn.Module):
    """A linear layer whose output is scaled by the running mean and standard deviation of the returns.

    Until `update` is called these are 0 and 1. An update rescales the layer so that every prediction stays the same
    (PopArt: van Hasselt et al. 2016, eq. 7 to 9): only the units of the loss change.
    """

    mean: Tensor
    deviation: Tensor
    moments: Tensor

    def __init__(self, features: int, *, zero: bool = False) -> None:
        """`zero`: predictions start at 0 for all features."""
        super().__init__()
        self.linear = nn.Linear(features, 1)
        orthogonal_(self.linear, 0.0 if zero else 1.0)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        # running sums of weight, return and squared return: dividing by the weight corrects for the cold start
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))

    def forward(self, features_BTD: Tensor) -> Tensor:
        """(B, T) float32 in units of reward."""
        value: Tensor = self.linear(features_BTD).squeeze(-1).float() * self.deviation + self.mean
        return value

    @torch.no_grad()
    def update(self, mean: Tensor, mean_square: Tensor, *, decay: float) -> None:
        """Update the statistics with those of an iteration's returns: float64 scalars, in units of reward.

        `decay`, 0 to 1: weight of all earlier iterations.
        """
        new = torch.stack([torch.ones_like(mean), mean, mean_square]).to(self.moments)
        self.moments.mul_(decay).add_(new, alpha=1 - decay)
        weight, first, second = self.moments
        new_mean = first / weight
        new_deviation = (second / weight - new_mean**2).clamp(min=_SMALLEST_VARIANCE).sqrt()
        ratio = self.deviation / new_deviation
        self.linear.weight.mul_(ratio)
        self.linear.bias.mul_(ratio).add_((self.mean - new_mean) / new_deviation)
        self.mean.copy_(new_mean)
        self.deviation.copy_(new_deviation)
