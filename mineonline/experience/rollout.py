"""PATH 1, in a worker process: environments and policy make fragments.

torchrl's collector owns the process, its weights and the shared memory in which a rollout is handed over. The rollout
itself is made by `Player`: a tight loop over the contract of `envs/contract.py`.

A rollout is a fragment of each environment. Axes: N environments of this worker, T rows, U = T + 1 rows, K statistics.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from mineonline.envs.contract import ContinuousAction, EnvSpec, Observation, VectorEnv
from mineonline.envs.failures import MOST_CHARACTERS, one_line
from mineonline.errors import MineonlineError
from mineonline.fragment import TensorField, empty_fragments
from mineonline.policies.actor import Actor
from mineonline.policies.precision import autocast
from mineonline.processes.fork_server import die_with_fork_server
from mineonline.processes.lifetimes import die_with_parent
from mineonline.processes.logs import log_to_stderr, send_output_to, worker_log

REASON_BYTES = 4 * MOST_CHARACTERS
"""Of why an environment failed, in UTF-8, filled up with zeros."""

BuildEnv = Callable[..., VectorEnv]
"""Called in the worker with `num_envs` and `first_index`, the global index of its first environment; picklable."""


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

    def schema(self, actor: Actor) -> tuple[TensorField, ...]:
        """The tensors of a fragment on the wire."""
        return actor.schema(self.env_spec, self.length)

    def report_schema(self) -> tuple[TensorField, ...]:
        """What a worker gives its collector besides the fragments."""
        return (
            TensorField("report.statistics_BTK", "float32", (self.length, len(self.env_spec.statistics))),
            TensorField("report.crashed_BT", "bool", (self.length,)),
            TensorField("report.reason", "uint8", (REASON_BYTES,)),
            TensorField("report.env_s", "float32", ()),
            TensorField("report.policy_s", "float32", ()),
        )


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
        torch.manual_seed(np.random.SeedSequence((settings.seed, first_env)).generate_state(1)[0])
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
        for t in range(self._length):
            action, decision = self._decide(t)
            before = time.perf_counter()
            idle_N = self._truncated_N | self._waiting_N
            step = vector.step({k: v[:, 0].cpu().numpy() for k, v in action.items()}, ~idle_N.numpy())
            # after a death, reset at once; after a truncation, only after the row of its last observation
            reset_N = torch.from_numpy(step.terminated_N) | self._truncated_N
            row: dict[str, Any] = {
                **decision,
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
        tensors["report.env_s"].fill_(env_s)
        tensors["report.policy_s"].fill_(time.perf_counter() - started - env_s)

    def _decide(self, t: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Let the policy choose in row t. Returns the action (N, 1) and what the row records of it."""
        policy, reference = self._actor.policy, self._actor.reference
        device = policy.version.device
        observation = {name: tensor.to(device) for name, tensor in self._write_observation(t).items()}
        first_NT = self._first_N.unsqueeze(1).to(device)
        with autocast(self._precision, device):
            output = policy(observation, first_NT, self._memory)
            self._memory = output.memory
            if reference is not None:
                self._reference_memory = reference(observation, first_NT, self._reference_memory).memory
        action = policy.head.sample(output.logits)
        return action, {
            "log_prob_BT": policy.head.log_prob(output.logits, action)[:, 0],
            "value_BT": output.value_BT[:, 0],
            **{f"action.{name}": value[:, 0] for name, value in action.items()},
        }

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


class TorchrlEnv(EnvBase):  # type: ignore[misc]
    """A `VectorEnv` as torchrl sees it: batch size N, with torchrl's own reset and step."""

    def __init__(self, vector: VectorEnv, error_file: Path | None = None) -> None:
        """`error_file`: where to leave an error that the user can fix, for the collector."""
        super().__init__(batch_size=[vector.num_envs])
        self.vector = vector
        self.error_file = error_file
        n = (vector.num_envs,)
        self.observation_spec = Composite(
            {
                f"observation.{name}": Unbounded((*n, *spec.shape), dtype=getattr(torch, spec.dtype))
                for name, spec in vector.spec.observation.items()
            },
            shape=n,
        )
        self.action_spec = Composite(
            {
                name: Unbounded((*n, *action.shape), dtype=torch.float32)
                if isinstance(action, ContinuousAction)
                else Categorical(action, shape=n, dtype=torch.int64)
                for name, action in vector.spec.action.items()
            },
            shape=n,
        )
        self.reward_spec = Unbounded((*n, 1), dtype=torch.float32)
        self.done_spec = Composite(
            {name: Binary(shape=(*n, 1), dtype=torch.bool) for name in ("done", "terminated", "truncated")}, shape=n
        )

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDict:
        which_N = np.ones(self.vector.num_envs, np.bool_)
        if tensordict is not None and "_reset" in tensordict:
            which_N = tensordict["_reset"].reshape(-1).numpy()
        with _reporting(self.error_file):
            self.observation = self.vector.reset(which_N)
        return self._pack(self.observation)

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        action = {name: tensordict[name].numpy() for name in self.vector.spec.action}
        step = self.vector.step(action, np.ones(self.vector.num_envs, np.bool_))
        result = self._pack(step.observation)
        result["reward"] = torch.from_numpy(step.reward_N.copy()).unsqueeze(-1)
        for name, flag_N in {
            "terminated": step.terminated_N,
            "truncated": step.truncated_N,
            "done": step.terminated_N | step.truncated_N,
        }.items():
            result[name] = torch.from_numpy(flag_N.copy()).unsqueeze(-1)
        return result

    def _pack(self, observation: dict[str, Any]) -> TensorDict:
        tensors = {f"observation.{name}": torch.from_numpy(array.copy()) for name, array in observation.items()}
        return TensorDict(tensors, batch_size=self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        """Do nothing: the seeds of episodes follow from the settings that the environments are built with."""

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Close the environments."""
        self.vector.close()
        super().close(raise_if_closed=raise_if_closed)


class FragmentCollector(Collector):  # type: ignore[misc]
    """torchrl's collector in one worker, whose rollout is N fragments (batch size `[N]`).

    Overrides two methods: `rollout`, and `_maybe_make_final_rollout`, which allocates the tensors that `rollout` fills.
    torchrl's own rollout would store every observation twice and cost 2 ms of CPU per step.
    """

    def __init__(self, *args: Any, settings: RolloutSettings, **kwargs: Any) -> None:
        self._settings = settings
        if settings.collector_log is not None:
            send_output_to(worker_log(settings.collector_log, int(kwargs["worker_idx"])))
        super().__init__(*args, **kwargs)
        torch.set_num_threads(settings.torch_threads)

    def _maybe_make_final_rollout(self, make_rollout: bool) -> None:
        settings = self._settings
        first_env = settings.first_env + int(self.worker_idx or 0) * settings.envs_per_worker
        self._player = Player(self.env.vector, self.env.observation, self.policy, settings, first_env=first_env)
        # torchrl counts frames by its trajectory ids; nothing else uses them
        ids = torch.zeros(settings.envs_per_worker, settings.length, dtype=torch.int64)
        self._final_rollout = TensorDict(
            {**self._player.tensors, "collector": {"traj_ids": ids}},
            batch_size=[settings.envs_per_worker], device="cpu",
        )  # fmt: skip
        self._policy_output_keys: list[str] = []

    def rollout(self) -> TensorDict:
        """T rows of every environment, written into the tensors shared with the collector process."""
        with _reporting(self.env.error_file):
            self._player.play()
        return self._final_rollout


def start_worker(parent: int | None) -> None:
    """Runs first in every worker. It then ignores SIGINT and SIGTERM, and ends with its collector.

    `parent`: the collector's process id, or None if the worker was forked by the collector's fork server.
    """
    if parent is None:
        die_with_fork_server()
        np.random.seed()  # otherwise all workers would draw the same from numpy's global generator
    else:
        die_with_parent(parent)
    log_to_stderr()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def build_torchrl_env(build_env: BuildEnv, error_file: Path, *, num_envs: int, first_index: int) -> TorchrlEnv:
    """A worker's environments. An error that the user can fix is written to `error_file` and ends the worker."""
    with _reporting(error_file):
        return TorchrlEnv(build_env(num_envs=num_envs, first_index=first_index), error_file)


@contextmanager
def _reporting(error_file: Path | None) -> Iterator[None]:
    """Write an error that the user can fix to `error_file` and end the worker: torchrl would lose its text."""
    try:
        yield
    except MineonlineError as error:
        if error_file is None:
            raise
        partial = error_file.with_suffix(".part")
        partial.write_text(str(error))
        partial.rename(error_file)
        logging.shutdown()
        os._exit(1)
