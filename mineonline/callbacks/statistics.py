"""Episodes, throughput and drops of each iteration, over all ranks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import lightning
import torch

from mineonline.callbacks.iteration import IterationCallback
from mineonline.callbacks.task_statistics import TaskStatistics
from mineonline.envs.tasks import Task
from mineonline.experience.buffer import Batch
from mineonline.fragment import Episode
from mineonline.learning.module import PPO
from mineonline.learning.ranks import sum_over_ranks

_WINDOW_EPISODES = 100


class Statistics(IterationCallback):
    """Logs what arrived since the last iteration, summed over ranks.

    `episode/*` are means over at least the last 100 episodes (fewer at the start; NaN before the first). `time/*`
    is the fraction of time that each link waited or worked. `idle_rows` is the fraction
    of rows without a decision: last observations of truncated episodes, and environments that wait for their next
    episode. `env_failures` counts environments that failed and were replaced, playing or not. The window of episodes,
    and what is counted in env steps, episodes and failures, is part of a checkpoint. With several tasks, events are
    counted for each task only, by `TaskStatistics`.
    """

    def __init__(
        self, names: tuple[str, ...], restarts: Callable[[], int], *, task: Task | None = None,
        tasks: TaskStatistics | None = None,
    ) -> None:  # fmt: skip
        """`names`: the environment's statistics. `restarts`: returns how many collectors this rank has restarted.

        `task`: the run's only one, `tasks`: several.
        """
        self._names = names if tasks is None else ()
        self._succeeded = task.succeeded if task and task.succeeded(dict.fromkeys(names, 0.0)) is not None else None
        self._tasks = tasks
        self._restarts = restarts
        self._window: deque[dict[str, float]] = deque()
        self._totals = {"env_steps": 0, "episodes": 0, "env_failures": 0}
        self._last = time.perf_counter()
        self._taken = self._last
        self.newest: Mapping[str, float] = {}
        """What was logged for the last iteration; replaced, never changed."""

    def state_dict(self) -> dict[str, Any]:
        tasks = {} if self._tasks is None else {"tasks": self._tasks.state_dict()}
        return {**self._totals, "window": list(self._window), **tasks}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._window = deque(state_dict["window"])
        self._totals = {name: state_dict[name] for name in self._totals}
        if self._tasks is not None:
            self._tasks.load_state_dict(state_dict["tasks"])

    def started(self, trainer: lightning.Trainer, learner: PPO) -> None:
        self._last = time.perf_counter()

    def batch_taken(self) -> None:
        self._taken = time.perf_counter()

    def iteration_ended(self, trainer: lightning.Trainer, learner: PPO, batch: Batch) -> None:
        now = time.perf_counter()
        elapsed, learn_s, self._last = now - self._last, now - self._taken, now
        sums = _over_ranks(trainer, self._sums(batch))
        for name, total in self._totals.items():
            self._totals[name] = total + int(sums[name])
        collecting_s = max(sums["total_s"], 1e-9)
        times = {
            "environments": sums["env_s"] / collecting_s,
            "inference": sums["policy_s"] / collecting_s,
            "sending": sums["send_s"] / collecting_s,
            "learner": learn_s / elapsed,
        }
        fragments = sums["fragments"]
        metrics = {
            "episodes": float(self._totals["episodes"]),
            **self._episode_means(sums),
            "env_steps": float(self._totals["env_steps"]),
            "env_steps_per_s": sums["env_steps"] / elapsed,
            "lag_versions": sums["lag"] / fragments,
            "lag_versions_max": _max_over_ranks(trainer, float(max(batch.lag_B))),
            "reuse": sums["reuse"] / fragments,
            "idle_rows": sums["idle_rows"] / fragments,
            "dropped/stale": sums["stale"],
            "dropped/refused": sums["refused"],
            "dropped/surplus": sums["surplus"],
            "dropped/lost": sums["lost"],
            "collectors": float(len(batch.arrivals.collectors)),
            "collector_restarts": float(self._restarts()),
            "env_failures": float(self._totals["env_failures"]),
            "time/iteration_s": elapsed,
            "time/learner_waits": batch.wait_s / elapsed,
            "time/buffer_full": sums["full_s"] / trainer.world_size / elapsed,
            **{f"time/{name}": value for name, value in times.items()},
        }
        if self._tasks is not None:
            metrics |= self._tasks.metrics(batch, trainer.strategy.root_device)
        self.newest = metrics
        learner.log_dict(metrics, batch_size=1)

    def _sums(self, batch: Batch) -> dict[str, float]:
        arrivals = batch.arrivals
        return {
            "env_steps": float(arrivals.env_steps),
            "env_failures": float(arrivals.env_failures),
            "fragments": float(len(batch.lag_B)),
            "lag": float(sum(batch.lag_B)),
            "reuse": float(sum(batch.reuse_B)),
            "idle_rows": float(batch.fragments.idle_BT.float().mean(1).sum()),
            "stale": float(arrivals.dropped["stale"]),
            "refused": float(arrivals.dropped["refused"]),
            "surplus": float(arrivals.dropped["surplus"]),
            "lost": float(arrivals.dropped["lost"]),
            "env_s": sum(t.env_s for t in arrivals.timings),
            "policy_s": sum(t.policy_s for t in arrivals.timings),
            "send_s": sum(t.send_s for t in arrivals.timings),
            "total_s": sum(t.total_s for t in arrivals.timings),
            "full_s": arrivals.full_s,
            "episodes": float(len(arrivals.episodes)),
            "episode/return": sum(episode.episode_return for episode in arrivals.episodes),
            "episode/length": float(sum(episode.length for episode in arrivals.episodes)),
            **{
                f"episode/{name}": sum(episode.statistics[name] for episode in arrivals.episodes)
                for name in self._names
            },
            **self._successes(arrivals.episodes),
        }

    def _successes(self, episodes: Iterable[Episode]) -> dict[str, float]:
        if self._succeeded is None:
            return {}
        return {"episode/success": float(sum(bool(self._succeeded(episode.statistics)) for episode in episodes))}

    def _episode_means(self, sums: dict[str, float]) -> dict[str, float]:
        """Means over the window of iterations, after adding this one to it."""
        self._window.append(sums)
        while sum(entry["episodes"] for entry in self._window) - self._window[0]["episodes"] >= _WINDOW_EPISODES:
            self._window.popleft()
        count = sum(entry["episodes"] for entry in self._window)
        return {
            name: sum(entry[name] for entry in self._window) / count if count else float("nan")
            for name in sums
            if name.startswith("episode/")
        }


def _over_ranks(trainer: lightning.Trainer, values: dict[str, float]) -> dict[str, float]:
    sums = sum_over_ranks(torch.tensor(list(values.values()), dtype=torch.float64, device=trainer.strategy.root_device))
    return dict(zip(values, map(float, sums.cpu()), strict=True))


def _max_over_ranks(trainer: lightning.Trainer, value: float) -> float:
    if trainer.world_size == 1:
        return value
    tensor = torch.tensor(value, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return float(tensor)
