"""Heads: turn features into a distribution over actions.

Only the head knows what its logits mean: it samples, and gives log-probability and entropy of whole actions (all
components). Impossible choices have probability 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn

from mineonline.envs.contract import ActionSpec, ContinuousAction
from mineonline.fragment import Tensors
from mineonline.policies.precision import FullPrecisionLinear

IMPOSSIBLE = -1e9  # instead of -inf, whose product with probability 0 is NaN
_NO_BOUND = 1e6
"""Bounds further from 0 say no more than none: the largest float32 is a usual one."""


def orthogonal_(layer: nn.Linear | nn.Conv2d, gain: float) -> None:
    """Orthogonal weights and zero bias, the usual start for PPO (Huang et al. 2022, detail 2)."""
    nn.init.orthogonal_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Head(nn.Module):
    """Distribution over actions.

    `logits` is the output of `forward`, with any leading axes; an action is name -> int64 with the same leading axes,
    or float32 with them and the shape of a continuous action.
    """

    by_task = False
    """Whether `forward` also needs the index of each row's task, because what is possible differs."""

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> logits (..., *)."""
        raise NotImplementedError

    def sample(self, logits: Tensor) -> Tensors:
        """One random action for each entry of the leading axes."""
        raise NotImplementedError

    def best(self, logits: Tensor) -> Tensors:
        """The most probable choice of every component: the class, or the mean of a continuous one."""
        raise NotImplementedError

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        """Log-probability of whole actions, in nats; of the density for continuous components."""
        raise NotImplementedError

    def entropy(self, logits: Tensor) -> Tensor:
        """Entropy of whole actions, in nats."""
        raise NotImplementedError

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        """KL(this || other) of the distributions over whole actions, in nats. `other`: logits of the same head."""
        raise NotImplementedError


def of_task(possible: Tensor, head: Head, task: Tensor | None) -> Tensor:
    """What is possible in each row, given the index of its task (int64, the leading axes)."""
    if not head.by_task:
        return possible
    assert task is not None, "the tasks' masks differ: call the head with observation['task']"
    return possible[task]


class GroupedHead(Head):
    """Independent categorical choices (groups G), each over its own number of classes, padded to a common K."""

    possible_GK: Tensor
    """bool; where it differs between tasks, it has an axis more, in front: the task."""

    def __init__(self, features: int, possible_GK: Tensor, *, gain: float = 0.01) -> None:
        super().__init__()
        self.groups, self.classes = possible_GK.shape[-2:]
        self.by_task = possible_GK.dim() == 3
        self.linear = FullPrecisionLinear(features, self.groups * self.classes)
        orthogonal_(self.linear, gain)
        self.register_buffer("possible_GK", possible_GK, persistent=False)

    def forward(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        logits = self.linear(features).unflatten(-1, (self.groups, self.classes))
        masked: Tensor = logits.masked_fill(~of_task(self.possible_GK, self, task), IMPOSSIBLE)
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


class GaussianHead(Head):
    """Independent normal distributions of all continuous components, and a `CategoricalHead` of the others, if any.

    The mean follows the features; the standard deviation does not, as is usual for PPO (Andrychowicz et al. 2021, Huang
    et al. 2022). An action with two bounds starts in their middle, with half their distance as the deviation; one
    without, or with huge ones, starts at 0 with deviation 1. Samples are not clipped. `logits` is (..., G x K + 2 D):
    the logits of the G categorical components, then mean and log standard deviation of the D numbers.
    """

    centre: Tensor
    log_scale: Tensor

    def __init__(self, features: int, action: Mapping[str, ActionSpec], *, gain: float = 0.01) -> None:
        super().__init__()
        classes = {name: number for name, number in action.items() if isinstance(number, int)}
        self._continuous = {name: part for name, part in action.items() if isinstance(part, ContinuousAction)}
        self.categorical = CategoricalHead(features, classes) if classes else None
        starts = [
            _start(*bounds) for part in self._continuous.values() for bounds in zip(part.low, part.high, strict=True)
        ]
        centre, scale = torch.tensor(starts).unbind(1)
        self.linear = FullPrecisionLinear(features, len(starts))
        orthogonal_(self.linear, gain)
        self.log_deviation = nn.Parameter(torch.zeros(len(starts)))
        """In units of the start's."""
        self.register_buffer("centre", centre, persistent=False)
        self.register_buffer("log_scale", scale.log(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        mean = self.centre + self.log_scale.exp() * self.linear(features)
        log_deviation = (self.log_scale + self.log_deviation).expand_as(mean)
        parts = [] if self.categorical is None else [self.categorical(features).flatten(-2)]
        return torch.cat([*parts, mean, log_deviation], -1)

    def sample(self, logits: Tensor) -> Tensors:
        _, mean, log_deviation = self._split(logits)
        return self._action(logits, mean + log_deviation.exp() * torch.randn_like(mean), random=True)

    def best(self, logits: Tensor) -> Tensors:
        return self._action(logits, self._split(logits)[1], random=False)

    def log_prob(self, logits: Tensor, action: Tensors) -> Tensor:
        classes, mean, log_deviation = self._split(logits)
        number = torch.cat([action[name].reshape(*mean.shape[:-1], -1) for name in self._continuous], -1)
        distance = (number - mean) * (-log_deviation).exp()
        density = (-0.5 * distance.square() - log_deviation - 0.5 * math.log(2 * math.pi)).sum(-1)
        return density if self.categorical is None else density + self.categorical.log_prob(classes, action)

    def entropy(self, logits: Tensor) -> Tensor:
        classes, _, log_deviation = self._split(logits)
        entropy = (log_deviation + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)
        return entropy if self.categorical is None else entropy + self.categorical.entropy(classes)

    def kl(self, logits: Tensor, other: Tensor) -> Tensor:
        classes, mean, log_deviation = self._split(logits)
        other_classes, other_mean, other_log_deviation = self._split(other)
        wider = other_log_deviation - log_deviation
        distance = (mean - other_mean) * (-other_log_deviation).exp()
        kl = (wider + 0.5 * ((-2 * wider).exp() + distance.square() - 1)).sum(-1)
        return kl if self.categorical is None else kl + self.categorical.kl(classes, other_classes)

    def _split(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the categorical head (..., G, K), mean and log standard deviation (..., D)."""
        numbers = len(self.centre)
        classes, mean, log_deviation = logits.tensor_split([-2 * numbers, -numbers], -1)
        if self.categorical is not None:
            classes = classes.reshape(*classes.shape[:-1], self.categorical.groups, self.categorical.classes)
        return classes, mean, log_deviation

    def _action(self, logits: Tensor, number: Tensor, *, random: bool) -> Tensors:
        ends = list(accumulate(len(part.low) for part in self._continuous.values()))
        pieces = zip(self._continuous.items(), number.tensor_split(ends[:-1], -1), strict=True)
        action = {name: piece.reshape(*piece.shape[:-1], *part.shape) for (name, part), piece in pieces}
        if self.categorical is not None:
            classes = self._split(logits)[0]
            action |= self.categorical.sample(classes) if random else self.categorical.best(classes)
        return action


def head_for(features: int, action: Mapping[str, ActionSpec]) -> Head:
    """The head for an environment's actions (`EnvSpec.action`)."""
    classes = {name: number for name, number in action.items() if isinstance(number, int)}
    return CategoricalHead(features, classes) if len(classes) == len(action) else GaussianHead(features, action)


def _start(low: float | None, high: float | None) -> tuple[float, float]:
    """Mean and standard deviation to start with."""
    if low is None or high is None or max(abs(low), abs(high)) > _NO_BOUND:
        return 0.0, 1.0
    return (low + high) / 2, (high - low) / 2 or 1.0  # the environment clips what has only one value
