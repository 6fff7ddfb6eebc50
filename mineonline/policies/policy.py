"""What a policy is: one forward pass, used by learner and workers alike, with memory carried between calls.

Axes: B sequences, T rows. Row by row (T = 1) or all at once, the results agree to 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mineonline.envs.contract import TensorSpec
from mineonline.policies.heads import Head
from mineonline.policies.value import ValueHead

Memory = dict[str, Tensor]
"""Name -> (B, *shape); empty for a policy without memory."""


def picture_names(observation: Mapping[str, TensorSpec]) -> list[str]:
    """The observations that are pictures: uint8 with three axes (H, W, C)."""
    return [name for name, spec in observation.items() if spec.dtype == "uint8" and len(spec.shape) == 3]


def stretches(first_BT: Tensor) -> list[slice]:
    """The rows between resets: in each stretch, only the first row can begin an episode."""
    starts = sorted({0, *first_BT.any(0).nonzero().squeeze(1).tolist()})
    return list(map(slice, starts, [*starts[1:], first_BT.shape[1]]))


class PolicyOutput(NamedTuple):
    """The output of one forward pass."""

    logits: Tensor
    """(B, T, ...): only the policy's head reads them."""
    value_BT: Tensor
    """float32, in units of reward."""
    memory: Memory
    """After the last row."""


class Policy(nn.Module):
    """Base class of all policies.

    A subclass sets `head`, `value` and `memory_spec` and implements `forward`. Where `first_BT` is set, memory
    is reset before the row, even within a sequence.
    """

    version: Tensor
    head: Head
    value: ValueHead

    def __init__(self, memory_spec: Mapping[str, TensorSpec] | None = None) -> None:
        super().__init__()
        self.memory_spec = dict(memory_spec or {})
        # saved and sent with the weights, so that a fragment always carries the version of the weights that made it
        self.register_buffer("version", torch.zeros((), dtype=torch.int64))

    def forward(self, observation: dict[str, Tensor], first_BT: Tensor, memory: Memory) -> PolicyOutput:
        """Evaluate T rows of B sequences; `memory` is the state before row 0."""
        raise NotImplementedError

    def value_parameters(self) -> list[nn.Parameter]:
        """Parameters that only the value depends on."""
        return list(self.value.parameters())

    def initial_memory(self, count: int) -> Memory:
        """Memory of `count` sequences before their first row."""
        device = self.version.device
        return {
            name: torch.zeros((count, *spec.shape), dtype=getattr(torch, spec.dtype), device=device)
            for name, spec in self.memory_spec.items()
        }
