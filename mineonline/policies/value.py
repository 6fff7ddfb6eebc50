"""The value of a state, predicted in normalised units and returned in units of reward.

Axes: B sequences, T rows, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mineonline.policies.heads import orthogonal_
from mineonline.policies.precision import FullPrecisionLinear

_SMALLEST = 1e-2
"""The deviation never falls below this fraction of the largest so far: an agent that is not rewarded for a while would
otherwise learn nothing but ever smaller errors of its value."""


class ValueHead(torch.nn.Module):
    """A linear layer whose output is scaled by the running mean and standard deviation of the returns.

    Until `update` is called these are 0 and 1. An update rescales the layer so that every prediction stays the same
    (PopArt: van Hasselt et al. 2016, eq. 7 to 9): only the units of the loss change.
    """

    mean: Tensor
    deviation: Tensor
    smallest: Tensor
    moments: Tensor

    def __init__(self, features: int, *, zero: bool = False) -> None:
        """`zero`: predictions start at 0 for all features."""
        super().__init__()
        self.linear = FullPrecisionLinear(features, 1)
        orthogonal_(self.linear, 0.0 if zero else 1.0)
        self.cut_off = False
        """Whether the value's gradient stops here, so that it trains nothing that the policy depends on."""
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("smallest", torch.zeros(()))
        # running sums of weight, return and squared return: dividing by the weight corrects for the cold start
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))

    def forward(self, features_BTD: Tensor) -> Tensor:
        """(B, T) float32 in units of reward."""
        features_BTD = features_BTD.detach() if self.cut_off else features_BTD
        value: Tensor = self.linear(features_BTD).squeeze(-1).float() * self.deviation + self.mean
        return value

    @torch.no_grad()
    def forget_scale(self) -> None:
        """For an untrained head: predict 0 until the first returns show their scale, then start at their mean.

        Random predictions of about 1 would be bootstrapped into those returns, which may be a million times smaller.
        """
        for tensor in (self.mean, self.deviation, self.smallest, self.moments):
            tensor.zero_()

    @torch.no_grad()
    def update(self, mean: Tensor, mean_square: Tensor, *, decay: float) -> None:
        """Update the statistics with those of an iteration's returns: float64 scalars, in units of reward.

        `decay`, 0 to 1: weight of all earlier iterations.
        """
        new = torch.stack([torch.ones_like(mean), mean, mean_square]).to(self.moments)
        self.moments.mul_(decay).add_(new, alpha=1 - decay)
        weight, first, second = self.moments
        if not second > 0:
            return  # every return was 0, which shows no scale
        new_mean = first / weight
        variance = (second / weight - new_mean**2).clamp(min=1e-12 * second / weight)
        new_deviation = variance.sqrt().clamp(min=self.smallest)
        self.smallest.clamp_(min=_SMALLEST * new_deviation)
        if self.deviation > 0:
            ratio = self.deviation / new_deviation
            self.linear.weight.mul_(ratio)
            self.linear.bias.mul_(ratio).add_((self.mean - new_mean) / new_deviation)
        self.mean.copy_(new_mean)
        self.deviation.copy_(new_deviation)
