"""Behaviour cloning of recorded fragments, as a second loss next to PPO's.

Axes: B fragments, T rows.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mineonline.errors import ConfigError
from mineonline.fragment import Fragments
from mineonline.policies.policy import Policy

_FORBIDDEN = -1e6
"""In nats: only an action that a mask forbids has a lower log-probability."""


class FragmentSet(Protocol):
    """Recorded fragments, for example `mineonline.RecordedFragments`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor) -> Fragments: ...


class Cloning:
    """Draws `fragments` recorded fragments for each optimiser step."""

    def __init__(self, recorded: FragmentSet, *, coef: float, fragments: int) -> None:
        self._recorded = recorded
        self._coef = coef
        self._fragments = fragments

    def loss(self, policy: Policy, generator: torch.Generator) -> Tensor:
        """`coef` x mean of -log π(recorded action), in nats, over the decisions of the drawn fragments.

        Memory starts empty in each fragment: the memory of the recording policy means nothing to this one.
        """
        index = torch.randint(len(self._recorded), (self._fragments,), generator=generator)
        drawn = self._recorded[index].to(policy.version.device)
        observation = {name: tensor[:, :-1] for name, tensor in drawn.observation.items()}
        output = policy(observation, drawn.first_BU[:, :-1], policy.initial_memory(len(drawn)))
        log_prob_BT = policy.head.log_prob(output.logits, drawn.action)
        if bool((log_prob_BT[~drawn.idle_BT] < _FORBIDDEN).any()):
            raise ConfigError(
                "offline.folder: recorded actions are forbidden by this run's task (task.actions). Give the task that "
                "they were recorded with, or record new fragments."
            )
        return -self._coef * log_prob_BT[~drawn.idle_BT].mean()
