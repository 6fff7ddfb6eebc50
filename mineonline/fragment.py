"""The records that all parts share. A fragment is T consecutive rows of one environment, across the ends of episodes.

Axes: B fragments, T rows. `_BU` tensors have U = T + 1 rows: the last is what the last action led to.

A row is one decision, with two exceptions, marked in `idle_BT`: no action was taken there, and no loss reads them.
First, when an episode is truncated (a time limit, a crash), its true last observation gets its own row: the truncated
decision bootstraps from the value of that row, with the policy's memory of the whole episode. Second, until the next
episode has started (Minecraft takes seconds), rows hold nothing. So a row always shows what the row before it led to,
unless that one terminated:

    row          t        t+1      t+2                    row          t           t+1
    decision     last     -        first of the next      decision     last        first of the next
    truncated    yes                                      terminated   yes
    idle                  yes
    first                          yes                    first                    yes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
from torch import Tensor

from mineonline.envs.contract import ActionSpec, ContinuousAction, EnvSpec, TensorSpec
from mineonline.envs.failures import MOST_CHARACTERS

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Fragments:
    """B fragments of T rows, as the behaviour policy saw them when it acted."""

    observation: Tensors
    """Name -> (B, U, *shape)."""
    first_BU: Tensor
    """bool: the row is the first of an episode; memory is reset before it."""
    action: Tensors
    """Name -> (B, T) int64, the class; for a continuous action (B, T, *shape) float32, as sampled: not clipped."""
    log_prob_BT: Tensor
    """float32: log-probability of the whole action under the behaviour policy, in nats."""
    value_BT: Tensor
    """float32: the behaviour policy's value, in units of reward."""
    reward_BT: Tensor
    """float32."""
    terminated_BT: Tensor
    """bool: the episode ended for good; nothing bootstraps."""
    truncated_BT: Tensor
    """bool: the episode was cut; the next row holds its last observation."""
    idle_BT: Tensor
    """bool: the row holds no decision."""
    memory: Tensors
    """Name -> (B, *shape): the policy's memory before row 0."""
    reference_memory: Tensors
    """Name -> (B, *shape): the reference policy's memory; empty if there is no reference, or it has no memory."""
    version_B: Tensor
    """int64: version of the behaviour policy."""
    env_B: Tensor
    """int64: global index of the environment; unique in the run."""
    sequence_B: Tensor
    """int64: the fragment's number within its environment, from 0; a gap shows that one is missing."""

    def __len__(self) -> int:
        return len(self.version_B)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor with its name on the wire, for example `observation.image` or `reward_BT`, in a fixed order."""
        for name, value in self.__dict__.items():
            if isinstance(value, dict):
                yield from ((f"{name}.{key}", tensor) for key, tensor in value.items())
            else:
                yield name, value

    @staticmethod
    def from_named_tensors(tensors: Mapping[str, Tensor]) -> Fragments:
        """The inverse of `named_tensors`."""
        flat: dict[str, Tensor] = {}
        groups: dict[str, Tensors] = {"observation": {}, "action": {}, "memory": {}, "reference_memory": {}}
        for name, tensor in tensors.items():
            group, dot, key = name.partition(".")
            if dot:
                groups[group][key] = tensor
            else:
                flat[name] = tensor
        return Fragments(**groups, **flat)  # type: ignore[arg-type]

    def map(self, function: Callable[[Tensor], Tensor]) -> Fragments:
        """Apply `function` to every tensor."""
        return Fragments.from_named_tensors({name: function(tensor) for name, tensor in self.named_tensors()})

    def __getitem__(self, index: Tensor | slice) -> Fragments:
        return self.map(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Fragments:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


def concatenate(
    parts: Sequence[Fragments], empty: Callable[[str, tuple[int, ...], torch.dtype], Tensor] | None = None
) -> Fragments:
    """All fragments of `parts`, in their order. `empty`: makes the tensor that they are copied to."""
    columns = [dict(part.named_tensors()) for part in parts]
    count = sum(map(len, parts))
    result: Tensors = {}
    for name, first in columns[0].items():
        out = empty(name, (count, *first.shape[1:]), first.dtype) if empty is not None else None
        result[name] = torch.cat([column[name] for column in columns], out=out)
    return Fragments.from_named_tensors(result)


class TensorField(msgspec.Struct, frozen=True):
    """A tensor sent between processes: its name, torch dtype and shape (without B, for a fragment's tensors)."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the tensor."""
        return int(getattr(torch, self.dtype).itemsize * torch.Size(self.shape).numel())


def fragment_schema(
    env: EnvSpec,
    memory: Mapping[str, TensorSpec],
    reference_memory: Mapping[str, TensorSpec],
    length: int,
) -> tuple[TensorField, ...]:
    """Every tensor of a fragment of `length` rows, in the order of `Fragments.named_tensors`."""
    rows = (length,)
    return (
        *(TensorField(f"observation.{name}", s.dtype, (length + 1, *s.shape)) for name, s in env.observation.items()),
        TensorField("first_BU", "bool", (length + 1,)),
        *(_action_field(name, action, length) for name, action in env.action.items()),
        TensorField("log_prob_BT", "float32", rows),
        TensorField("value_BT", "float32", rows),
        TensorField("reward_BT", "float32", rows),
        TensorField("terminated_BT", "bool", rows),
        TensorField("truncated_BT", "bool", rows),
        TensorField("idle_BT", "bool", rows),
        *(TensorField(f"memory.{name}", s.dtype, s.shape) for name, s in memory.items()),
        *(TensorField(f"reference_memory.{name}", s.dtype, s.shape) for name, s in reference_memory.items()),
        TensorField("version_B", "int64", ()),
        TensorField("env_B", "int64", ()),
        TensorField("sequence_B", "int64", ()),
    )


def _action_field(name: str, action: ActionSpec, length: int) -> TensorField:
    if isinstance(action, ContinuousAction):
        return TensorField(f"action.{name}", "float32", (length, *action.shape))
    return TensorField(f"action.{name}", "int64", (length,))


def empty_fragments(schema: Sequence[TensorField], count: int, *, shared: bool = True) -> Tensors:
    """Uninitialised tensors for `count` fragments, by name; `shared`: in shared memory."""
    made = {field.name: torch.empty((count, *field.shape), dtype=getattr(torch, field.dtype)) for field in schema}
    return {name: tensor.share_memory_() for name, tensor in made.items()} if shared else made  # type: ignore[no-untyped-call]


class Episode(msgspec.Struct, frozen=True):
    """A finished episode."""

    episode_return: float
    """Sum of its rewards, undiscounted."""
    length: int
    """Decisions."""
    task: str
    statistics: dict[str, float]
    """Totals of the events that the task counts, for example `{"kill_entity/cow": 2.0}`."""
    crashed: bool = False
    """Truncated because the environment failed."""
    discounted_return: float = 0.0
    """Sum of its rewards, each multiplied by `objective.discount` once for every decision before it."""


class Timing(msgspec.Struct, frozen=True):
    """Where a collector's time went during one rollout, in seconds."""

    env_s: float
    policy_s: float
    send_s: float
    """Sending the previous rollout, including the wait for room."""
    total_s: float


class EnvFailure(msgspec.Struct, frozen=True):
    """Why an environment failed."""

    env: int
    """Global index."""
    reason: Annotated[str, msgspec.Meta(max_length=MOST_CHARACTERS)]
    """One line."""


class Report(msgspec.Struct, frozen=True):
    """What a collector reports to the trainer with each fragment."""

    collector_id: int
    episodes: tuple[Episode, ...]
    """Episodes that have ended since its last fragment, which may be more than those in this one."""
    env_failures: int
    """How often environments of this collector have failed since its last fragment."""
    timing: Timing
    reasons: tuple[EnvFailure, ...] = ()
    """Of these failures; of several of one environment in a rollout, only the last."""
    surplus: int = 0
    """Fragments that it did not send since its last one, because their environments had their share (lockstep only)."""
    lost: int = 0
    """Fragments that were in flight when a connection broke, since its last one."""
