"""What each task of a run gave, where there are several."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mineonline.envs.task_mix import TASK
from mineonline.envs.tasks import Task
from mineonline.experience.buffer import Batch
from mineonline.fragment import Episode
from mineonline.learning.ranks import rows_of_all_ranks, sum_over_ranks

WINDOW_EPISODES = 100
_MOST_HEADLINES = 3
_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
_ALWAYS = ("return", "discounted_return", "length", "success")
_MEAN_ONLY = ("discounted_return", "length", "success")
"""Those without a spread and quantiles."""


class TaskStatistics:
    """Metrics of each task over its last 100 episodes, on all ranks; NaN before its first.

    `task/<name>/...`: means of `return`, `discounted_return`, `length`, `success` (the fraction of episodes, where the
    task has a notion of it) and all of its events; of the return and the events also `_std` and quantiles. `episodes`
    counts all of them so far, `share` is the fraction of the iteration's decisions. `tasks/...` are means over the
    tasks, each of which counts the same, once all have ended an episode.
    """

    def __init__(self, tasks: Mapping[str, tuple[str, ...]], known: tuple[Task, ...]) -> None:
        """`tasks`: `EnvSpec.tasks`. `known`: tasks that may say what a success is."""
        self._tasks = dict(tasks)
        self._succeeds = {task.name: task.succeeded for task in known if task.success}
        self._columns = {name: (*_ALWAYS, *statistics) for name, statistics in tasks.items()}
        self._width = 1 + max(map(len, self._columns.values()))
        self._window: dict[str, deque[list[float]]] = {name: deque(maxlen=WINDOW_EPISODES) for name in tasks}
        """The columns of the last episodes."""
        self._episodes = dict.fromkeys(tasks, 0)
        self.headlines = [f"task/{name}/return" for name in [*tasks][:_MOST_HEADLINES]]

    def state_dict(self) -> dict[str, Any]:
        return {"episodes": dict(self._episodes), "window": {name: list(rows) for name, rows in self._window.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._episodes = dict(state["episodes"])
        for name, rows in state["window"].items():
            self._window[name] = deque(rows, maxlen=WINDOW_EPISODES)

    def metrics(self, batch: Batch, device: torch.device) -> dict[str, float]:
        """All of them, after this iteration's episodes. All ranks call this together; `device`: the rank's."""
        rows = [self._row(episode) for episode in batch.arrivals.episodes]
        mine = torch.tensor(rows, dtype=torch.float64, device=device).reshape(-1, self._width)
        names = list(self._tasks)
        for index, *row in rows_of_all_ranks(mine).tolist():
            name = names[int(index)]
            self._window[name].append(row[: len(self._columns[name])])
            self._episodes[name] += 1
        shares = self._shares(batch, device)
        found: dict[str, float] = {}
        for name, share in zip(names, shares, strict=True):
            found |= {f"task/{name}/{key}": value for key, value in self._of_task(name).items()}
            found |= {f"task/{name}/episodes": float(self._episodes[name]), f"task/{name}/share": share}
        for key in _ALWAYS:
            of_each = [found[f"task/{name}/{key}"] for name in names if f"task/{name}/{key}" in found]
            if of_each:
                found[f"tasks/{key}"] = float(np.mean(of_each))
        return found

    def _row(self, episode: Episode) -> list[float]:
        """The index of its task, then the columns, filled up to the width of all tasks' rows."""
        names = self._tasks[episode.task]
        succeeds = self._succeeds.get(episode.task)
        row = [
            float(list(self._tasks).index(episode.task)), episode.episode_return, episode.discounted_return,
            float(episode.length), float(bool(succeeds(episode.statistics))) if succeeds else math.nan,
            *(episode.statistics[name] for name in names),
        ]  # fmt: skip
        return row + [0.0] * (self._width - len(row))

    def _of_task(self, name: str) -> dict[str, float]:
        rows = list(self._window[name])
        found = {}
        for column, key in enumerate(self._columns[name]):
            if key == "success" and name not in self._succeeds:
                continue
            values = np.array([row[column] for row in rows] or [math.nan])
            found[key] = float(values.mean())
            if key not in _MEAN_ONLY:
                found[f"{key}_std"] = float(values.std())
                found |= {f"{key}_{word}": float(np.quantile(values, at)) for word, at in _QUANTILES.items()}
        return found

    def _shares(self, batch: Batch, device: torch.device) -> list[float]:
        fragments = batch.fragments
        task_BT = fragments.observation[TASK][:, :-1]
        decided = torch.bincount(task_BT[~fragments.idle_BT], minlength=len(self._tasks))
        decided = sum_over_ranks(decided.to(device, torch.float64)).cpu()
        return [float(number) for number in decided / max(float(decided.sum()), 1.0)]
