"""PATH 1, in a worker process: environments and policy make fragments.

`Player` is a tight loop over the contract of `envs/contract.py`, in which all environments take their steps together.
Where each can be stepped at its own pace, `AsyncPlayer` (`async_player.py`) takes its place.

A rollout is a fragment of each environment. Axes: N environments of this worker, T rows, U = T + 1 rows, K statistics.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mineonline.envs.contract import EnvSpec, Observation, VectorEnv
from mineonline.envs.failures import MOST_CHARACTERS, one_line
from mineonline.fragment import TensorField, empty_fragments
from mineonline.policies.actor import Actor
from mineonline.policies.policy import Memory
from mineonline.policies.precision import autocast
from mineonline.policies.transfer import to_device, to_host

REASON_BYTES = 4 * MOST_CHARACTERS
"""Of why an environment failed, in UTF-8, filled up with zeros."""


@dataclass(frozen=True)
class RolloutSettings:
    """What a worker needs besides its environments and its policy."""

    env_spec: EnvSpec
    length: int
    """Rows of a fragment (T)."""
    envs_per_worker: int
    first_env: int
    """Global index of the collector's first environment."""
    seed: int
    device: str
    precision: str
    """`trainer.precision`: the policy acts under the same autocast as in the learner."""
    torch_threads: int
    collector_log: Path | None
    """The collector's log file; each worker's is next to it. None leaves stdout and stderr alone."""
    asynchronous: bool = False
    """Let each environment play at its own pace, where they can (`contract.AsyncVectorEnv`)."""
    batch_min: int = 0
    """Environments that the policy then decides for at once, at least if that many come soon. 0: a quarter of them."""

    def schema(self, actor: Actor) -> tuple[TensorField, ...]:
        """The tensors of a fragment on the wire."""
        return actor.schema(self.env_spec, self.length)

    def report_rows(self) -> tuple[TensorField, ...]:
        """What a worker gives its collector for each row of a fragment, besides the fragment."""
        return (
            TensorField("report.statistics_BTK", "float32", (self.length, len(self.env_spec.statistics))),
            TensorField("report.crashed_BT", "bool", (self.length,)),
        )

    def report_schema(self) -> tuple[TensorField, ...]:
        """What a worker gives its collector besides the fragments."""
        return (
            *self.report_rows(),
            TensorField("report.failures", "int64", ()),
            TensorField("report.reason", "uint8", (REASON_BYTES,)),
            TensorField("report.reason_env", "int64", ()),
            TensorField("report.env_s", "float32", ()),
            TensorField("report.policy_s", "float32", ()),
        )


class Decision(NamedTuple):
    """What an actor chose for D environments; on the CPU, but for the memories."""

    action: dict[str, Tensor]
    """Name -> (D, *shape)."""
    row: dict[str, Tensor]
    """What a fragment records of it: name -> (D, *shape)."""
    memory: Memory
    reference_memory: Memory


def decide(
    actor: Actor, observation: dict[str, Tensor], first_D: Tensor, memory: Memory, reference_memory: Memory,
    precision: str,
) -> Decision:  # fmt: skip
    """Let the actor choose, by torch's global generator. `observation`: name -> (D, 1, *shape), on the CPU."""
    policy, reference = actor.policy, actor.reference
    device = policy.version.device
    seen = to_device({**observation, "first": first_D.unsqueeze(1)}, device)
    first_D1 = seen.pop("first")
    with autocast(precision, device):
        output = policy(seen, first_D1, memory)
        if reference is not None:
            reference_memory = reference(seen, first_D1, reference_memory).memory
    action = policy.head.sample(output.logits)
    row = {
        "log_prob_BT": policy.head.log_prob(output.logits, action),
        "value_BT": output.value_BT,
        **{f"action.{name}": value for name, value in action.items()},
    }
    row = {name: value[:, 0] for name, value in to_host(row).items()}
    return Decision({name: row[f"action.{name}"] for name in action}, row, output.memory, reference_memory)


def seed_sampling(seed: int, first_env: int) -> None:
    """Seed torch's global generator for the worker whose first environment has this global index."""
    torch.manual_seed(np.random.SeedSequence((seed, first_env)).generate_state(1)[0])


class Player:
    """N environments and an actor that make rollouts, each written over the previous one.

    Rollouts depend only on the seed, `first_env` and the actor's weights; sampling uses torch's global generator.
    """

    def __init__(
        self, vector: VectorEnv, observation: Observation, actor: Actor, settings: RolloutSettings, *, first_env: int
    ) -> None:
        """`observation`: what `vector` returned when all its environments were reset, just now."""
        self._vector = vector
        self._actor = actor
        self._length = settings.length
        self._precision = settings.precision
        n = vector.num_envs
        self.tensors = empty_fragments((*settings.schema(actor), *settings.report_schema()), n)
        """Name -> (N, *shape): the newest rollout, in shared memory."""
        self.tensors["env_B"].copy_(torch.arange(n) + first_env)
        seed_sampling(settings.seed, first_env)
        self._observation = observation
        self._memory = actor.policy.initial_memory(n)
        self._reference_memory = actor.reference.initial_memory(n) if actor.reference else {}
        self._waiting_N = torch.from_numpy(vector.waiting_N.copy())
        self._truncated_N = torch.zeros(n, dtype=torch.bool)
        self._first_N = ~self._waiting_N
        self._sequence = 0

    @torch.no_grad()
    def play(self) -> None:
        """Write T rows of every environment into `tensors`."""
        tensors, vector = self.tensors, self._vector
        started = time.perf_counter()
        env_s = 0.0
        for name, state in self._memory.items():
            tensors[f"memory.{name}"].copy_(state)
        for name, state in self._reference_memory.items():
            tensors[f"reference_memory.{name}"].copy_(state)
        tensors["version_B"].fill_(self._actor.policy.version)
        tensors["sequence_B"].fill_(self._sequence)
        tensors["report.reason"].zero_()
        tensors["report.reason_env"].copy_(tensors["env_B"])
        for t in range(self._length):
            decision = decide(
                self._actor, self._write_observation(t), self._first_N, self._memory, self._reference_memory,
                self._precision,
            )  # fmt: skip
            self._memory, self._reference_memory = decision.memory, decision.reference_memory
            before = time.perf_counter()
            idle_N = self._truncated_N | self._waiting_N
            step = vector.step({name: value.numpy() for name, value in decision.action.items()}, ~idle_N.numpy())
            # after a death, reset at once; after a truncation, only after the row of its last observation
            reset_N = torch.from_numpy(step.terminated_N) | self._truncated_N
            row: dict[str, Any] = {
                **decision.row,
                "reward_BT": torch.from_numpy(step.reward_N),
                "terminated_BT": torch.from_numpy(step.terminated_N),
                "truncated_BT": torch.from_numpy(step.truncated_N),
                "idle_BT": idle_N,
                "report.statistics_BTK": torch.from_numpy(step.statistics_NK),
                "report.crashed_BT": torch.from_numpy(step.crashed_N),
            }
            for name, value in row.items():
                tensors[name][:, t] = value
            for n, reason in step.reasons.items():
                tensors["report.reason"][n] = torch.from_numpy(reason_bytes(reason))
            self._truncated_N = torch.from_numpy(step.truncated_N.copy())
            self._observation = vector.reset(reset_N.numpy()) if reset_N.any() else step.observation
            waiting_N = torch.from_numpy(vector.waiting_N.copy())
            self._first_N = (reset_N | self._waiting_N) & ~waiting_N
            self._waiting_N = waiting_N
            env_s += time.perf_counter() - before
        self._write_observation(self._length)
        self._sequence += 1
        tensors["report.failures"].copy_(tensors["report.crashed_BT"].sum(1))
        tensors["report.env_s"].fill_(env_s)
        tensors["report.policy_s"].fill_(time.perf_counter() - started - env_s)

    def _write_observation(self, row: int) -> dict[str, Tensor]:
        """Copy the environments' current observation into a row; returns it as (N, 1, ...)."""
        self.tensors["first_BU"][:, row] = self._first_N
        written = {}
        for name, array in self._observation.items():
            tensor = self.tensors[f"observation.{name}"]
            tensor[:, row] = torch.from_numpy(array)
            written[name] = tensor[:, row : row + 1]
        return written


def reason_bytes(reason: str) -> NDArray[np.uint8]:
    """A reason as a tensor, since nothing else travels from a worker to its collector."""
    return np.frombuffer(one_line(reason).encode(errors="replace").ljust(REASON_BYTES, b"\0"), np.uint8).copy()
