"""Behaviour cloning of recorded fragments, as a second loss next to PPO's.

Axes: B fragments, T rows.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mineonline.errors import ConfigError
from mineonline.fragment import Fragments
from mineonline.learning.objective import Rows
from mineonline.policies.policy import Policy

_FORBIDDEN = -1e6
"""In nats: only an action that a mask forbids has a lower log-probability."""


class FragmentSet(Protocol):
    """Recorded fragments, for example `mineonline.RecordedFragments`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Fragments: ...


class Cloning:
    """Draws `fragments` recorded fragments for each optimiser step; `coef` weighs their loss."""

    def __init__(self, recorded: FragmentSet, *, coef: float, fragments: int) -> None:
        self._recorded = recorded
        self.coef = coef
        self._fragments = fragments

    def draw(self, generator: torch.Generator) -> Fragments:
        """What an optimiser step clones."""
        return self._recorded[torch.randint(len(self._recorded), (self._fragments,), generator=generator)]

    def loss(self, policy: Policy, part: Fragments, rows: Rows) -> Tensor:
        """What a part of the drawn fragments, on the policy's device, adds to the mean of -log π(action), in nats.

        Memory starts empty in each fragment: the memory of the recording policy means nothing to this one.
        """
        observation = {name: tensor[:, :-1] for name, tensor in part.observation.items()}
        output = policy(observation, part.first_BU[:, :-1], policy.initial_memory(len(part)))
        log_prob_BT = policy.head.log_prob(output.logits, part.action)
        # a density has no lower limit: a number far from the mean is unlikely, not forbidden
        classes_only = not any(tensor.is_floating_point() for tensor in part.action.values())
        if classes_only and bool((log_prob_BT[rows.decided_BT] < _FORBIDDEN).any()):
            raise ConfigError(
                "offline.folder: recorded actions are forbidden by this run's task (task.actions). Give the task that "
                "they were recorded with, or record new fragments."
            )
        return rows.mean(-log_prob_BT)
