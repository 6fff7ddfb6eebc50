"""One table names every number that a run logs; `docs/metrics.md` is written from it."""

import subprocess
import sys

import pytest
import torch

from mineonline.callbacks.loggers import TolerateLoggers
from mineonline.callbacks.statistics import Statistics
from mineonline.errors import ConfigError
from mineonline.fragment import Episode
from mineonline.learning.cloning import Cloning
from mineonline.metrics import as_markdown
from mineonline.metrics_table import METRICS, find
from mineonline.run.metrics import MetricsFile, mean_of_last, read_metrics
from tests.helpers.learning_set import ALL_OPTIONS, learn, recorded
from tests.helpers.programs import LIMIT_S
from tests.helpers.settings import ROOT, config_of
from tests.helpers.shipped_tasks import shipped

EVENT = "kill_entity/cow"


class Recording:
    """Recorded fragments of the learning set, in place of a folder's."""

    def __init__(self):
        self.batch = recorded(0).fragments

    def __len__(self):
        return len(self.batch)

    def __getitem__(self, index):
        return self.batch[torch.as_tensor(index)]


def with_an_episode(batch):
    batch.arrivals.episodes = [Episode(1.0, 5, "task", {EVENT: 2.0})]
    return batch


def test_a_run_with_everything_turned_on_logs_exactly_the_names_of_the_table(tmp_path):
    learn(
        tmp_path, 4, *ALL_OPTIONS, change=with_an_episode, log_every_n_steps=1,
        cloning=Cloning(Recording(), coef=0.1, fragments=2),
        callbacks=[Statistics((EVENT,), restarts=lambda: 0, task=shipped("hunt_cow")), TolerateLoggers()],
        logger=MetricsFile(tmp_path / "metrics.csv", resume_at=0),
    )  # fmt: skip
    (columns, *_) = map(list, read_metrics(tmp_path / "metrics.csv"))
    assert [name for name in columns if find(name) is None] == []
    logged = {find(name).name for name in columns}
    with_one_task = [metric for metric in METRICS if not metric.when.startswith("tasks")]
    assert [metric.name for metric in with_one_task if metric.name not in logged] == []


def test_a_name_that_is_not_in_the_table_is_found(tmp_path):
    assert find("episode/kill_entity/cow").name == "episode/<event>"
    assert find("episode/") is find("loss/nonsense") is find("xenv_steps") is None


def test_names_are_there_once_and_have_a_meaning():
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(metric.meaning.endswith(".") for metric in METRICS)


def test_the_page_of_metrics_is_what_the_code_says():
    assert (ROOT / "docs" / "metrics.md").read_text() == "\n".join(as_markdown()) + "\n"


@pytest.mark.program
def test_the_command_prints_every_metric_in_80_columns():
    words = [sys.executable, "-m", "mineonline.metrics"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert [metric.name for metric in METRICS if metric.name not in done.stdout] == []
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_metric_of_a_sweep_must_be_in_the_table_unless_the_user_logs_metrics():
    with pytest.raises(ConfigError, match=r"sweep.metric=episode_return: .* Did you mean episode/return"):
        config_of("sweep.metric=episode_return")
    config_of("sweep.metric=mine", "callbacks=[{_target_: my.Callback}]")


def test_what_a_job_returns_is_the_mean_of_the_last_numbers(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv", resume_at=0)
    for step, value in enumerate([5.0, float("nan"), 1.0, 2.0], 1):
        metrics.log_metrics({"episode/return": value, "never": float("nan")}, step)
    file = tmp_path / "metrics.csv"
    assert mean_of_last(file, "episode/return", 1) == 2
    assert mean_of_last(file, "episode/return", 3) == 1.5
    assert str(mean_of_last(file, "never", 3)) == "nan"
    with pytest.raises(ConfigError, match=r"episode/retrun: this run has not logged it. Did you mean episode/return"):
        mean_of_last(file, "episode/retrun", 3)
