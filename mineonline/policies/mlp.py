"""A fully connected policy for vector observations (gym)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mineonline.envs.contract import EnvSpec
from mineonline.envs.task_mix import TASK
from mineonline.errors import ConfigError
from mineonline.policies.heads import head_for, orthogonal_
from mineonline.policies.policy import Memory, Policy, PolicyOutput, picture_names
from mineonline.policies.value import ValueHead


class MlpPolicy(Policy):
    """Separate tanh towers for actor and critic, as in Schulman et al. 2017, section 6.1; no memory.

    Where there are several tasks, both read which one is played, as a vector with a single 1.
    """

    def __init__(self, spec: EnvSpec, hidden_sizes: Sequence[int], *, zero_initial_value: bool) -> None:
        super().__init__()
        pictures = picture_names(spec.observation)
        if pictures:
            raise ConfigError(
                f"policy=mlp reads vectors, but the environment shows a picture ({pictures[0]!r}). Use policy=tiny."
            )
        self._tasks = len(spec.tasks)
        size = sum(math.prod(s.shape) for s in spec.observation.values()) + max(0, self._tasks - 1)
        self.actor = _tower(size, hidden_sizes)
        self.critic = _tower(size, hidden_sizes)
        self.head = head_for(hidden_sizes[-1], spec.action)
        self.value = ValueHead(hidden_sizes[-1], zero=zero_initial_value)

    def forward(self, observation: dict[str, Tensor], first_BT: Tensor, memory: Memory) -> PolicyOutput:
        if self._tasks:
            observation = {**observation, TASK: functional.one_hot(observation[TASK], self._tasks)}
        vector_BTD = torch.cat([part.flatten(2).float() for part in observation.values()], -1)
        return PolicyOutput(self.head(self.actor(vector_BTD)), self.value(self.critic(vector_BTD)), memory)

    def value_parameters(self) -> list[nn.Parameter]:
        return [*self.critic.parameters(), *super().value_parameters()]


def _tower(size: int, hidden_sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden_sizes:
        linear = nn.Linear(size, width)
        orthogonal_(linear, math.sqrt(2))
        layers += [linear, nn.Tanh()]
        size = width
    return nn.Sequential(*layers)
