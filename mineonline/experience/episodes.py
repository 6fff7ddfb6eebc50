"""The episodes that end in a collector's rollouts, and their scores."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mineonline.fragment import Episode


class EpisodeScores:
    """Adds up the rewards and decisions of N environments, across rollouts."""

    def __init__(self, environments: int, *, statistics: tuple[str, ...], task: str, staggered: bool) -> None:
        """`staggered`: the first episode of each environment starts part-way through, and is not reported."""
        self._statistics = statistics
        self._task = task
        self._return_N = np.zeros(environments)
        self._length_N = np.zeros(environments, np.int64)
        self._partial_N = np.full(environments, staggered)

    def finished(self, rollout: dict[str, Tensor], row: int, n: int) -> tuple[Episode, ...]:
        """Episodes that ended in fragment `row` of a rollout, environment n's. Call it once for each, in order."""
        reward_T = rollout["reward_BT"][row].numpy().astype(np.float64)
        decided_T = ~rollout["idle_BT"][row].numpy()
        ended_T = (rollout["terminated_BT"][row] | rollout["truncated_BT"][row]).numpy()
        episodes = []
        start = 0
        for end in [*(np.flatnonzero(ended_T) + 1), len(reward_T)]:
            self._return_N[n] += (reward_T * decided_T)[start:end].sum()
            self._length_N[n] += decided_T[start:end].sum()
            if end and ended_T[end - 1] and end > start:
                totals = rollout["report.statistics_BTK"][row, end - 1].tolist()
                crashed = bool(rollout["report.crashed_BT"][row, end - 1])
                statistics = dict(zip(self._statistics, totals, strict=True))
                episode = Episode(float(self._return_N[n]), int(self._length_N[n]), self._task, statistics, crashed)
                if not self._partial_N[n]:
                    episodes.append(episode)
                self._partial_N[n] = False
                self._return_N[n] = self._length_N[n] = 0
            start = end
        return tuple(episodes)
