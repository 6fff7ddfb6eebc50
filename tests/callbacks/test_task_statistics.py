"""What is said of each task, against hand-computed numbers, and across a resume."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from mineonline.callbacks.statistics import Statistics
from mineonline.callbacks.task_statistics import TaskStatistics
from mineonline.fragment import Episode
from mineonline.run.metrics import MetricsFile, read_metrics
from tests.helpers.learning_set import learn, recorded
from tests.helpers.shipped_tasks import shipped

COW, LOG = "kill_entity/cow", "mine_block/oak_log"
TASKS = {"chop": (LOG,), "hunt": (COW,)}
HUNT = msgspec.structs.replace(shipped("hunt_cow"), name="hunt")  # a success from the first cow on
CPU = torch.device("cpu")


def episode(task, paid, *, length=5, discounted=0.0, events=0.0):
    return Episode(paid, length, task, {TASKS[task][0]: events}, False, discounted)


def batch_of(*episodes, decisions=(3, 1)):
    return told(recorded(0), *episodes, decisions=decisions)


def told(batch, *episodes, decisions=(3, 1)):
    """The batch with these episodes, in which the tasks got decisions in this proportion."""
    task_BU = torch.zeros(batch.fragments.first_BU.shape, dtype=torch.int64)
    task_BU[len(task_BU) * decisions[0] // sum(decisions) :] = 1
    observation = {**batch.fragments.observation, "task": task_BU}
    batch.fragments = replace(batch.fragments, observation=observation)
    batch.arrivals.episodes = list(episodes)
    return batch


def test_means_spread_and_quantiles_are_those_of_each_tasks_own_episodes():
    statistics = TaskStatistics(TASKS, (HUNT,))
    paid = [1.0, 2.0, 3.0, 10.0]
    hunts = [episode("hunt", p, length=10 + n, discounted=p / 2, events=n // 2) for n, p in enumerate(paid)]
    found = statistics.metrics(batch_of(*hunts, episode("chop", -1.0, events=7.0)), CPU)
    assert found["task/hunt/return"] == 4.0
    assert found["task/hunt/return_std"] == pytest.approx(np.std(paid))
    for word, share in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9)):
        assert found[f"task/hunt/return_{word}"] == pytest.approx(np.quantile(paid, share))
    assert found["task/hunt/discounted_return"] == 2.0
    assert found["task/hunt/length"] == 11.5
    assert found[f"task/hunt/{COW}"] == 0.5
    assert found[f"task/hunt/{COW}_std"] == 0.5
    assert found["task/hunt/success"] == 0.5
    assert (found["task/hunt/episodes"], found["task/chop/episodes"]) == (4.0, 1.0)
    assert (found["task/chop/share"], found["task/hunt/share"]) == (0.75, 0.25)
    assert (found["task/chop/return"], found[f"task/chop/{LOG}"]) == (-1.0, 7.0)
    # the chop task of this test does not say what a success is, and counts no cows
    assert "task/chop/success" not in found
    assert f"task/chop/{COW}" not in found


def test_the_mean_over_tasks_counts_each_task_the_same_and_waits_for_all():
    statistics = TaskStatistics(TASKS, (HUNT,))
    first = statistics.metrics(batch_of(*[episode("hunt", 2.0)] * 30), CPU)
    assert math.isnan(first["task/chop/return"])
    assert math.isnan(first["tasks/return"])
    assert first["tasks/success"] == 0.0  # only one task has a notion of it
    then = statistics.metrics(batch_of(episode("chop", 10.0, length=7)), CPU)
    assert then["tasks/return"] == 6.0
    assert then["tasks/length"] == 6.0


def test_only_the_last_hundred_episodes_of_a_task_count():
    statistics = TaskStatistics(TASKS, ())
    statistics.metrics(batch_of(*[episode("hunt", 1.0)] * 150, episode("chop", 5.0)), CPU)
    found = statistics.metrics(batch_of(*[episode("hunt", 2.0)] * 50), CPU)
    assert found["task/hunt/return"] == 1.5
    assert found["task/hunt/episodes"] == 200.0
    assert found["task/chop/return"] == 5.0


def metrics_of(folder, iterations, *, resume_at=0):
    def with_episodes(batch):
        number = float(batch.fragments.sequence_B[0])
        return told(batch, *[episode("hunt", number)] * 30, *[episode("chop", -number)] * 20)

    file = folder / "metrics.csv"
    learn(
        folder, iterations, checkpoint=folder / "last.ckpt" if resume_at else None, change=with_episodes,
        log_every_n_steps=1, callbacks=[Statistics((COW, LOG), lambda: 0, tasks=TaskStatistics(TASKS, (HUNT,)))],
        logger=MetricsFile(file, resume_at=resume_at),
    )  # fmt: skip
    return read_metrics(file)


def test_metrics_of_tasks_go_on_after_a_resume_as_if_nothing_had_happened(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = metrics_of(tmp_path / "whole", 6)
    metrics_of(tmp_path / "parts", 3)
    parts = metrics_of(tmp_path / "parts", 6, resume_at=3)
    names = [name for name in whole[0] if name.startswith(("task/", "tasks/", "episode/"))]
    assert len(names) > 20
    for name in names:
        assert [row[name] for row in parts] == [row[name] for row in whole], name
    assert [row["task/hunt/episodes"] for row in whole] == ["30", "60", "90", "120", "150", "180"]
    # without several tasks, the events of all would be here too
    assert {name for name in names if name.startswith("episode/")} == {"episode/return", "episode/length"}
