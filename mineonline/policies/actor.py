"""What a worker plays with, and what the learner publishes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mineonline.envs.contract import EnvSpec
from mineonline.fragment import TensorField, fragment_schema
from mineonline.policies.policy import Policy


class ActorState(NamedTuple):
    """The state of an `Actor`, in the order of its `state_dict`."""

    policy: dict[str, Tensor]
    reference: dict[str, Tensor]
    """As large as the policy, and seldom another; empty without one."""


class Actor(nn.Module):
    """The policy and, where the learner needs to know its memory, the reference policy.

    The memory of a reference policy (see `learning/module.py`) depends on everything that it saw, so it is carried
    where everything is seen. A reference without memory stays with the learner.
    """

    def __init__(self, policy: Policy, reference: Policy | None) -> None:
        super().__init__()
        self.policy = policy
        self.reference = reference if reference is not None and reference.memory_spec else None

    def parts(self) -> ActorState:
        """Its state, in views of its tensors."""
        state = self.state_dict()
        moving = {name: tensor for name, tensor in state.items() if name.startswith("policy.")}
        return ActorState(moving, {name: tensor for name, tensor in state.items() if name not in moving})

    def schema(self, env: EnvSpec, length: int) -> tuple[TensorField, ...]:
        """The tensors of the fragments that it makes."""
        reference_memory = self.reference.memory_spec if self.reference else {}
        return fragment_schema(env, self.policy.memory_spec, reference_memory, length)
