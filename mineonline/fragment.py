"""The record of experience: T consecutive rows of one environment, across the ends of episodes.

Axes: B fragments, T rows. `_BU` tensors have U = T + 1 rows: the last is what the last action led to.

A row is one decision, with two exceptions, marked in `final_BT`: no action was executed there and no loss reads them.
When an episode is cut (a time limit, a crash), its true last observation gets a row of its own: its value is what the
cut step bootstraps from, with the policy's memory of the whole episode. And while the next episode has not begun
(Minecraft takes seconds), there are rows that mean nothing. So the row after a row is always what the row led to,
unless that one terminated:

    row          t        t+1      t+2                    row          t           t+1
    decision     last     -        first of the next      decision     last        first of the next
    truncated    yes                                      terminated   yes
    final                 yes
    first                          yes                    first                    yes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from mineonline.envs.contract import EnvSpec, TensorSpec

TensorDict = dict[str, Tensor]


@dataclass(frozen=True)
class Fragments:
    """B fragments of T rows.

    All from the behaviour policy, as it was when it acted.
    """

    observation: TensorDict
    """Name -> (B, U, *shape)."""
    first_BU: Tensor
    """bool: the row begins an episode; memory is reset before it."""
    action: TensorDict
    """Name -> (B, T) int64 class."""
    log_prob_BT: Tensor
    """float32: of the whole action under the behaviour policy."""
    value_BT: Tensor
    """float32: the behaviour policy's value, in units of reward."""
    reward_BT: Tensor
    """float32."""
    terminated_BT: Tensor
    """bool: the episode ended here for good; nothing bootstraps."""
    truncated_BT: Tensor
    """bool: the episode was cut here; row T + 1 holds its last observation."""
    final_BT: Tensor
    """bool: the row holds no decision, but the last observation of an episode."""
    memory: TensorDict
    """Name -> (B, *shape): the policy's memory before row 0."""
    reference_memory: TensorDict
    """Name -> (B, *shape): the reference policy's; empty if there is none, or it has no memory."""
    version_B: Tensor
    """int64: version of the behaviour policy."""
    env_B: Tensor
    """int64: which environment of the whole run; unique over collectors."""
    sequence_B: Tensor
    """int64: counts the fragments of that environment from 0, given when collected, so that a gap shows."""

    def __len__(self) -> int:
        return len(self.version_B)

    def leaves(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor under its name on the wire, for example `observation.image` or `reward_BT`, in a fixed order."""
        for name, value in self.__dict__.items():
            if isinstance(value, dict):
                yield from ((f"{name}.{key}", tensor) for key, tensor in value.items())
            else:
                yield name, value

    @staticmethod
    def from_leaves(leaves: Mapping[str, Tensor]) -> Fragments:
        """The inverse of `leaves`."""
        flat: dict[str, Tensor] = {}
        groups: dict[str, TensorDict] = {"observation": {}, "action": {}, "memory": {}, "reference_memory": {}}
        for name, tensor in leaves.items():
            group, dot, key = name.partition(".")
            if dot:
                groups[group][key] = tensor
            else:
                flat[name] = tensor
        return Fragments(**groups, **flat)  # type: ignore[arg-type]

    def map(self, function: Callable[[Tensor], Tensor]) -> Fragments:
        """Apply `function` to every tensor."""
        return Fragments.from_leaves({name: function(tensor) for name, tensor in self.leaves()})

    def __getitem__(self, index: Tensor | slice) -> Fragments:
        return self.map(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> Fragments:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


def concatenate(parts: Sequence[Fragments]) -> Fragments:
    """One batch of all fragments of `parts`, in their order."""
    columns = [dict(part.leaves()) for part in parts]
    return Fragments.from_leaves({name: torch.cat([column[name] for column in columns]) for name in columns[0]})


class LeafSpec(msgspec.Struct, frozen=True):
    """Name, shape without B, and torch dtype name of one tensor of a fragment."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def fragment_schema(
    env: EnvSpec,
    memory: Mapping[str, TensorSpec],
    reference_memory: Mapping[str, TensorSpec],
    length: int,
) -> tuple[LeafSpec, ...]:
    """Every tensor of a fragment of `length` rows, in the order of `Fragments.leaves`."""
    rows = (length,)
    return (
        *(LeafSpec(f"observation.{name}", s.dtype, (length + 1, *s.shape)) for name, s in env.observation.items()),
        LeafSpec("first_BU", "bool", (length + 1,)),
        *(LeafSpec(f"action.{name}", "int64", rows) for name in env.action),
        LeafSpec("log_prob_BT", "float32", rows),
        LeafSpec("value_BT", "float32", rows),
        LeafSpec("reward_BT", "float32", rows),
        LeafSpec("terminated_BT", "bool", rows),
        LeafSpec("truncated_BT", "bool", rows),
        LeafSpec("final_BT", "bool", rows),
        *(LeafSpec(f"memory.{name}", s.dtype, s.shape) for name, s in memory.items()),
        *(LeafSpec(f"reference_memory.{name}", s.dtype, s.shape) for name, s in reference_memory.items()),
        LeafSpec("version_B", "int64", ()),
        LeafSpec("env_B", "int64", ()),
        LeafSpec("sequence_B", "int64", ()),
    )


def empty_fragments(schema: Sequence[LeafSpec], count: int) -> TensorDict:
    """Uninitialised tensors for `count` fragments, in shared memory, by name."""
    return {
        leaf.name: torch.empty((count, *leaf.shape), dtype=getattr(torch, leaf.dtype)).share_memory_()  # type: ignore[no-untyped-call]
        for leaf in schema
    }


class Episode(msgspec.Struct, frozen=True):
    """What is known of a finished episode."""

    episode_return: float
    """Sum of its rewards, undiscounted."""
    length: int
    """Decisions."""
    task: str
    statistics: dict[str, float]
    """Totals of the events that the task watches, for example `{"kill_entity/cow": 2.0}`."""
    crashed: bool = False
    """Cut because its environment failed."""
