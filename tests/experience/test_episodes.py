"""The scores of episodes, against hand-computed ones."""

import pytest
import torch

from mineonline.experience.episodes import EpisodeScores

STATISTICS = ("cows", "logs")
TASKS = {"chop": ("logs",), "hunt": ("cows",)}


def rollout(reward, *, ended=(), idle=(), task=None, totals=None):
    """One fragment of environment 0."""
    length = len(reward)
    rows = torch.zeros(1, length, dtype=torch.bool)
    ended_BT, idle_BT = rows.clone(), rows.clone()
    ended_BT[0, list(ended)] = True
    idle_BT[0, list(idle)] = True
    statistics = torch.zeros(1, length, 2)
    for row, pair in (totals or {}).items():
        statistics[0, row] = torch.tensor(pair)
    return {
        "reward_BT": torch.tensor([reward]), "idle_BT": idle_BT, "terminated_BT": ended_BT, "truncated_BT": rows,
        "report.statistics_BTK": statistics, "report.crashed_BT": rows,
        "observation.task": torch.tensor([[*(task or [0] * length), 0]]),
    }  # fmt: skip


def test_a_return_is_discounted_by_decisions_across_fragments_and_idle_rows():
    scores = EpisodeScores(1, statistics=STATISTICS, task="hunt", staggered=False, discount=0.5)
    assert scores.finished(rollout([1.0, 9.0, 2.0], idle=[1]), 0, 0) == ()  # the idle row's 9 does not count
    first, second = scores.finished(rollout([4.0, 8.0, 3.0], ended=[0, 2]), 0, 0)
    assert (first.episode_return, first.length, first.discounted_return) == (7.0, 3, 1 + 0.5 * 2 + 0.25 * 4)
    assert (second.episode_return, second.length, second.discounted_return) == (11.0, 2, 8 + 0.5 * 3)
    assert (first.task, first.statistics) == ("hunt", {"cows": 0.0, "logs": 0.0})


def test_an_episode_belongs_to_the_task_of_its_last_row_and_reports_that_tasks_events():
    scores = EpisodeScores(1, statistics=STATISTICS, task="", staggered=False, tasks=TASKS)
    played = rollout([1.0, 2.0, 3.0, 4.0], ended=[1, 3], task=[1, 1, 0, 0], totals={1: (2.0, 0.0), 3: (0.0, 5.0)})
    hunt, chop = scores.finished(played, 0, 0)
    assert (hunt.task, hunt.episode_return, hunt.statistics) == ("hunt", 3.0, {"cows": 2.0})
    assert (chop.task, chop.episode_return, chop.statistics) == ("chop", 7.0, {"logs": 5.0})


@pytest.mark.parametrize(("staggered", "reported"), [(True, ["hunt"]), (False, ["hunt", "chop", "hunt"])])
def test_the_first_episode_of_each_task_starts_part_way_through_and_is_not_reported(staggered, reported):
    scores = EpisodeScores(1, statistics=STATISTICS, task="", staggered=staggered, tasks=TASKS)
    played = rollout([1.0, 2.0, 3.0], ended=[0, 1, 2], task=[1, 0, 1])
    assert [episode.task for episode in scores.finished(played, 0, 0)] == reported
