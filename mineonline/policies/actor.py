"""The networks that a worker runs and the learner publishes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mineonline.envs.contract import EnvSpec
from mineonline.fragment import TensorField, fragment_schema
from mineonline.policies.policy import Policy


class ActorState(NamedTuple):
    """The state of an `Actor`, in the order of its `state_dict`."""

    policy: dict[str, Tensor]
    reference: dict[str, Tensor]
    """As large as the policy, but rarely changes; empty without a reference."""


class Actor(nn.Module):
    """The policy and, if it has memory, the reference policy.

    The memory of a reference policy (see `learning/module.py`) depends on every observation so far, so the worker,
    which sees them all, carries it. A reference without memory stays with the learner.
    """

    def __init__(self, policy: Policy, reference: Policy | None) -> None:
        super().__init__()
        self.policy = policy
        self.reference = reference if reference is not None and reference.memory_spec else None

    def parts(self, dtype: torch.dtype = torch.float32) -> ActorState:
        """The state, as views of the tensors. Parameters of the policy that are float32 are copied to `dtype`.

        Buffers, such as the scale of normalised values, and the reference keep their precision.
        """
        rounded = {name for name, tensor in self.policy.named_parameters("policy") if tensor.dtype == torch.float32}
        state = self.state_dict()
        moving = {
            name: tensor.to(dtype) if name in rounded else tensor
            for name, tensor in state.items() if name.startswith("policy.")
        }  # fmt: skip
        return ActorState(moving, {name: tensor for name, tensor in state.items() if name not in moving})

    def schema(self, env: EnvSpec, length: int) -> tuple[TensorField, ...]:
        """The tensors of the fragments that this actor makes."""
        reference_memory = self.reference.memory_spec if self.reference else {}
        return fragment_schema(env, self.policy.memory_spec, reference_memory, length)
