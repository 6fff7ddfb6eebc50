"""The episodes that end in a collector's rollouts, and their scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from mineonline.envs.task_mix import TASK
from mineonline.fragment import Episode


class EpisodeScores:
    """Adds up the rewards and decisions of N environments, across rollouts."""

    def __init__(
        self, environments: int, *, statistics: tuple[str, ...], task: str, staggered: bool,
        tasks: Mapping[str, tuple[str, ...]] | None = None, discount: float = 1.0,
    ) -> None:  # fmt: skip
        """`task`, or `tasks`: as in `EnvSpec`.

        `staggered`: the first episode of each environment, in each task, starts part-way through, and is not reported.
        """
        self._statistics = statistics
        self._tasks = tasks or {task: statistics}
        self._names = tuple(self._tasks)
        self._discount = discount
        self._return_N, self._discounted_N = np.zeros((2, environments))
        self._length_N = np.zeros(environments, np.int64)
        self._partial_NK = np.full((environments, len(self._names)), staggered)

    def finished(self, rollout: dict[str, Tensor], row: int, n: int) -> tuple[Episode, ...]:
        """Episodes that ended in fragment `row` of a rollout, environment n's. Call it once for each, in order."""
        reward_T = rollout["reward_BT"][row].numpy().astype(np.float64)
        decided_T = ~rollout["idle_BT"][row].numpy()
        ended_T = (rollout["terminated_BT"][row] | rollout["truncated_BT"][row]).numpy()
        episodes = []
        start = 0
        for end in [*(np.flatnonzero(ended_T) + 1), len(reward_T)]:
            paid = reward_T[start:end][decided_T[start:end]]
            before = self._discount ** (self._length_N[n] + np.arange(len(paid)))
            self._return_N[n] += (reward_T * decided_T)[start:end].sum()
            self._discounted_N[n] += (paid * before).sum()
            self._length_N[n] += len(paid)
            if end and ended_T[end - 1] and end > start:
                index = int(rollout[f"observation.{TASK}"][row, end - 1]) if len(self._names) > 1 else 0
                if not self._partial_NK[n, index]:
                    episodes.append(self._episode(rollout, row, end - 1, n, self._names[index]))
                self._partial_NK[n, index] = False
                self._return_N[n] = self._discounted_N[n] = self._length_N[n] = 0
            start = end
        return tuple(episodes)

    def _episode(self, rollout: dict[str, Tensor], row: int, t: int, n: int, task: str) -> Episode:
        """The episode of environment n whose last decision is in row t of a fragment."""
        totals = dict(zip(self._statistics, rollout["report.statistics_BTK"][row, t].tolist(), strict=True))
        return Episode(
            float(self._return_N[n]), int(self._length_N[n]), task, {name: totals[name] for name in self._tasks[task]},
            bool(rollout["report.crashed_BT"][row, t]), float(self._discounted_N[n]),
        )  # fmt: skip
