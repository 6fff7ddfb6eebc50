"""What the losses are computed on: sequences of rows, with the results of a first pass over them without gradients.

Axes: B fragments, T rows, U = T + 1 rows; S sequences of C rows, K per fragment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mineonline.fragment import Fragments, Tensors
from mineonline.policies.policy import Memory, Policy


@dataclass(frozen=True)
class Sequences:
    """S sequences of C rows; a minibatch is a subset."""

    observation: Tensors
    """Name -> (S, C, *shape)."""
    first_BT: Tensor
    """bool: memory is reset before the row."""
    memory: Tensors
    """Name -> (S, *shape): the policy's memory before the first row, under the weights at the iteration's start."""
    action: Tensors
    """Name -> (S, C), or (S, C, *shape) for a continuous action."""
    behaviour_log_prob_BT: Tensor
    """Under the behaviour policy, in nats."""
    proximal_log_prob_BT: Tensor
    """Under the weights at the iteration's start, in nats."""
    value_BT: Tensor
    """Under the weights at the iteration's start, in units of reward."""
    return_BT: Tensor
    """Target of the value, in units of reward."""
    advantage_BT: Tensor
    decided_BT: Tensor
    """bool: the row holds a decision; no loss reads the others."""
    reference_logits: Tensor | None
    """(S, C, ...), for the policy's head; None without a reference."""

    def __len__(self) -> int:
        return len(self.first_BT)

    def map(self, function: Callable[[Tensor], Tensor]) -> Sequences:
        """Apply `function` to every tensor."""

        def apply(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: function(tensor) for name, tensor in value.items()}
            return None if value is None else function(value)

        return Sequences(**{name: apply(value) for name, value in self.__dict__.items()})

    def __getitem__(self, index: Tensor) -> Sequences:
        return self.map(lambda tensor: tensor[index.to(tensor.device)])


class FirstPass(NamedTuple):
    """What the weights at the iteration's start give for fragments."""

    value_BU: Tensor
    log_prob_BT: Tensor
    """Of the recorded actions."""
    memory: Tensors
    """Name -> (B, K, *shape): before each sequence of the fragment."""


@torch.no_grad()
def first_pass(policy: Policy, fragments: Fragments, context: int) -> FirstPass:
    """Evaluate `fragments` (on the policy's device) in chunks of `context` rows, carrying memory. Result on the CPU."""
    values, log_probs, memories = [], [], []
    memory: Memory = fragments.memory
    for rows, decisions in _chunks(fragments, context):
        memories.append(memory)
        output = policy({k: v[:, rows] for k, v in fragments.observation.items()}, fragments.first_BU[:, rows], memory)
        memory = output.memory
        values.append(output.value_BT)
        action = {name: tensor[:, decisions] for name, tensor in fragments.action.items()}
        log_probs.append(policy.head.log_prob(output.logits[:, :context], action))
    return FirstPass(
        torch.cat(values, 1).cpu(),
        torch.cat(log_probs, 1).cpu(),
        {name: torch.stack([each[name] for each in memories], 1).cpu() for name in fragments.memory},
    )


@torch.no_grad()
def reference_logits(reference: Policy, fragments: Fragments, context: int) -> Tensor:
    """(B, T, ...) logits of the reference policy, with its own memory; on the policy's device."""
    logits = []
    memory: Memory = fragments.reference_memory
    for _, decisions in _chunks(fragments, context):
        observation = {name: tensor[:, decisions] for name, tensor in fragments.observation.items()}
        output = reference(observation, fragments.first_BU[:, decisions], memory)
        memory = output.memory
        logits.append(output.logits)
    return torch.cat(logits, 1)


def _chunks(fragments: Fragments, context: int) -> list[tuple[slice, slice]]:
    """Rows to evaluate and rows with decisions, per chunk: the last chunk also evaluates what the last row led to."""
    length = fragments.reward_BT.shape[1]
    starts = range(0, length, context)
    return [(slice(start, start + context + (start == starts[-1])), slice(start, start + context)) for start in starts]


def cut(
    fragments: Fragments,
    context: int,
    found: FirstPass,
    *,
    return_BT: Tensor,
    advantage_BT: Tensor,
    reference_logits: Tensor | None,
) -> Sequences:
    """Sequences of `context` rows, K per fragment, in order."""

    def split(tensor: Tensor) -> Tensor:
        fragments, length, *shape = tensor.shape
        return tensor.reshape(fragments * length // context, context, *shape)

    return Sequences(
        observation={name: split(tensor[:, :-1]) for name, tensor in fragments.observation.items()},
        first_BT=split(fragments.first_BU[:, :-1]),
        memory={name: tensor.flatten(0, 1) for name, tensor in found.memory.items()},
        action={name: split(tensor) for name, tensor in fragments.action.items()},
        behaviour_log_prob_BT=split(fragments.log_prob_BT),
        proximal_log_prob_BT=split(found.log_prob_BT),
        value_BT=split(found.value_BU[:, :-1]),
        return_BT=split(return_BT),
        advantage_BT=split(advantage_BT),
        decided_BT=~split(fragments.idle_BT),
        reference_logits=None if reference_logits is None else split(reference_logits),
    )
