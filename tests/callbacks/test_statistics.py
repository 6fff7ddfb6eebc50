"""What `metrics.csv` says of episodes, across a resume."""

import pytest

from mineonline.callbacks.statistics import Statistics
from mineonline.fragment import Episode
from mineonline.run.metrics import MetricsFile, read_metrics
from tests.helpers.learning_set import learn
from tests.helpers.shipped_tasks import shipped


def with_episodes(batch):
    """30 episodes arrive with each batch; their return is its number."""
    number = float(batch.fragments.sequence_B[0])
    batch.arrivals.episodes = [Episode(number, 5, "task", {"kill_entity/cow": number})] * 30
    return batch


def metrics_of(folder, iterations, *, resume_at=0):
    file = folder / "metrics.csv"
    checkpoint = folder / "last.ckpt" if resume_at else None
    learn(
        folder, iterations, checkpoint=checkpoint, change=with_episodes, log_every_n_steps=1,
        callbacks=[Statistics(("kill_entity/cow",), restarts=lambda: 0, task=shipped("hunt_cow"))],
        logger=MetricsFile(file, resume_at=resume_at),
    )  # fmt: skip
    return read_metrics(file)


@pytest.mark.parametrize("at", [1, 5])
def test_means_over_the_last_episodes_go_on_after_a_resume_as_if_nothing_had_happened(tmp_path, at):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = metrics_of(tmp_path / "whole", 8)
    metrics_of(tmp_path / "parts", at)
    parts = metrics_of(tmp_path / "parts", 8, resume_at=at)
    for name in (
        "iteration",
        "episodes",
        "episode/return",
        "episode/length",
        "episode/kill_entity/cow",
        "episode/success",
    ):
        assert [row[name] for row in parts] == [row[name] for row in whole], name
    # the last 100 episodes came with four batches
    assert [row["episode/return"] for row in whole] == ["0", "0.5", "1", "1.5", "2.5", "3.5", "4.5", "5.5"]
    # a cow killed, which the episodes of all batches but the first had
    successes = [float(row["episode/success"]) for row in whole]
    assert successes == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4, 1, 1, 1, 1])
