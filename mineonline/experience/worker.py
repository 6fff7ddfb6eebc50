"""PATH 1, a worker process as torchrl runs it.

torchrl's collector owns the process, its weights and the shared memory in which a rollout is handed over. The rollout
itself is made by a player (`rollout.py`, `async_player.py`).
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import Collector
from torchrl.data import Binary, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from mineonline.envs.contract import ContinuousAction, VectorEnv
from mineonline.errors import MineonlineError
from mineonline.experience.async_player import AsyncPlayer
from mineonline.experience.rollout import Player, RolloutSettings
from mineonline.processes.fork_server import die_with_fork_server
from mineonline.processes.lifetimes import die_with_parent
from mineonline.processes.logs import log_to_stderr, send_output_to, worker_log

BuildEnv = Callable[..., VectorEnv]
"""Called in the worker with `num_envs` and `first_index`, the global index of its first environment; picklable."""


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
        asynchronous = settings.asynchronous and hasattr(self.env.vector, "send")
        player = AsyncPlayer if asynchronous else Player
        self._player = player(self.env.vector, self.env.observation, self.policy, settings, first_env=first_env)
        # torchrl counts frames by its trajectory ids; nothing else uses them
        ids = torch.zeros(settings.envs_per_worker, settings.length, dtype=torch.int64)
        self._final_rollout = TensorDict(
            {**self._player.tensors, "collector": {"traj_ids": ids}},
            batch_size=[settings.envs_per_worker], device="cpu",
        )  # fmt: skip
        self._policy_output_keys: list[str] = []

    def rollout(self) -> TensorDict:
        """N fragments, written into the tensors shared with the collector process."""
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
