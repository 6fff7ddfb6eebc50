"""Heads: turn features into a distribution over actions.

Only the head knows what its logits mean: it samples, and gives log-probability and entropy of whole actions (all
components). Impossible choices have probability 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mineonline.fragment import Tensors
from mineonline.policies.precision import FullPrecisionLinear

IMPOSSIBLE = -1e9  # instead of -inf, whose product with probability 0 is NaN


def orthogonal_(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Orthogonal weights and zero bias, the usual start for PPO (Huang et al. 2022, detail 2)."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Head(nn.Module):
    """Distribution over actions.

    `logits` is the output of `forward`, with any leading axes; an action is name -> int64 with the same leading axes.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> logits (..., *)."""
        raise NotImplementedError

    def sample(self, logits: Tensor) -> Tensors:
        """One random action for each entry of the leading axes."""
        raise NotImplementedError

    def best(self, logits: Tensor) -> Tensors:
        """The most probable choice of every component."""
        raise NotImplementedError

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        """Log-probability of whole actions, in nats."""
        raise NotImplementedError

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy of whole actions, in nats."""
        raise NotImplementedError

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        """KL(this || other) of the distributions over whole actions, in nats. `other`: logits of the same head."""
        raise NotImplementedError


class GroupedHead(Head):
    """Independent categorical choices (groups G), each over its own number of classes, padded to a common K."""

    possible_GK: Tensor

    def __init__(self, features: int, possible_GK: Tensor, *, gain: float = 0.01) -> None:
        super().__init__()
        self.groups, self.classes = possible_GK.shape
        self.linear = FullPrecisionLinear(features, self.groups * self.classes)
        orthogonal_(self.linear, gain)
        self.register_buffer("possible_GK", possible_GK, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        logits = self.linear(features).unflatten(-1, (self.groups, self.classes))
        masked: Tensor = logits.masked_fill(~self.possible_GK, IMPOSSIBLE)
        return masked.log_softmax(-1)

    def _choose(self, logits: Tensor, *, random: bool) -> Tensor:
        """(..., G, K) -> (..., G) class of each group."""
        if random:
            # Gumbel-max: one argmax samples every group at once
            logits = logits - torch.empty_like(logits).exponential_().log_()
        return logits.argmax(-1)

    def _group_log_prob(self, logits: Tensor, choice: Tensor) -> Tensor:
        return logits.gather(-1, choice.unsqueeze(-1)).squeeze(-1)

    def _group_entropy(self, logits: Tensor) -> Tensor:
        return -(logits.exp() * logits).sum(-1)

    def _group_kl(self, logits: Tensor, other: Tensor) -> Tensor:
        return (logits.exp() * (logits - other)).sum(-1)


class CategoricalHead(GroupedHead):
    """One independent categorical per component, for environments with small action spaces (gym)."""

    def __init__(self, features: int, action: Mapping[str, int]) -> None:
        self._names = list(action)
        possible = torch.zeros(len(action), max(action.values()), dtype=torch.bool)
        for row, size in enumerate(action.values()):
            possible[row, :size] = True
        super().__init__(features, possible)

    def _action(self, choice: Tensor) -> Tensors:
        return {name: choice[..., group] for group, name in enumerate(self._names)}

    def sample(self, logits: Tensor) -> Tensors:
        return self._action(self._choose(logits, random=True))

    def best(self, logits: Tensor) -> Tensors:
        return self._action(self._choose(logits, random=False))

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        choice = torch.stack([action[name] for name in self._names], -1)
        return self._group_log_prob(logits, choice).sum(-1)

    def entropy(self, logits: Tensor) -> Tensor:
        return self._group_entropy(logits).sum(-1)

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        return self._group_kl(logits, other).sum(-1)
