"""`slurm/train.sh` and `slurm/collect.sh` on a Slurm cluster of two nodes on this machine."""

import os
import signal
from pathlib import Path

import pytest

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import rows, wait_until, weights
from tests.helpers.settings import QUICK, ROOT
from tests.helpers.slurm_cluster import SlurmCluster, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=f"no Slurm cluster here: {why_not()}")]


@pytest.fixture(scope="module")
def cluster():
    with SlurmCluster(2) as opened:
        opened.env["PYTHONPATH"] = str(ROOT)
        yield opened


class Job:
    """A job of `slurm/train.sh` on both nodes, with all of their CPUs unless `cpus` says less."""

    def __init__(self, cluster, folder, *words, partition="main", cpus=16):
        self._cluster = cluster
        self._folder = folder
        options = [f"--partition={partition}", "--nodes=2", f"--cpus-per-task={cpus}"]
        settings = [*QUICK, "trainer.accelerator=cpu", *words]
        self.id = cluster.run("sbatch", "--parsable", *options, f"{ROOT}/slurm/train.sh", *settings, cwd=folder)
        self.run_dir = Path(folder, "runs", "slurm", self.id)

    @property
    def output(self):
        file = self._folder / f"mineonline-{self.id}.log"
        return file.read_text() if file.exists() else ""

    @property
    def restarts(self):
        return int(self._cluster.field(self.id, "Restarts"))

    def wait_for(self, *states):
        wait_until(lambda: self._cluster.state(self.id) in states, lambda: self.output)

    def wait_for_rows(self, count):
        wait_until(lambda: rows(self.run_dir) >= count, lambda: self.output)


def check_counters(run_dir, iterations):
    """Every iteration has been done once, whatever came between."""
    assert [int(row["iteration"]) for row in read_metrics(run_dir / "metrics.csv")] == list(range(1, iterations + 1))
    assert int(weights(run_dir)["policy.version"]) == iterations


def test_a_preempted_job_is_requeued_and_continues_where_it_was(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=60", partition="low")
    job.wait_for_rows(12)
    # in `main`, which has priority
    urgent = cluster.run("sbatch", "--parsable", "--nodes=2", "--exclusive", "--wrap=sleep 3", cwd=tmp_path)
    job.wait_for("COMPLETED")
    assert cluster.state(urgent) == "COMPLETED"
    assert job.restarts == 1, job.output
    assert job.output.count("joined run") == 4, job.output  # a collector on each node, twice
    check_counters(job.run_dir, 60)
    assert not cluster.processes("mineonline")


def test_a_warned_job_is_requeued_and_collectors_of_another_job_follow_it(cluster, tmp_path, monkeypatch):
    monkeypatch.setitem(cluster.env, "MINEONLINE_COLLECTORS", "0")
    job = Job(cluster, tmp_path, "iterations=60", cpus=4)
    wait_until((job.run_dir / "join").exists, lambda: job.output)
    array = cluster.run("sbatch", "--parsable", "--array=0-1", "--cpus-per-task=2",
                        f"{ROOT}/slurm/collect.sh", f"run={job.run_dir}", cwd=tmp_path)  # fmt: skip
    job.wait_for_rows(12)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    job.wait_for("COMPLETED")
    assert job.restarts == 1, job.output
    check_counters(job.run_dir, 60)
    wait_until(lambda: not cluster.run("squeue", "--noheader", f"--jobs={array}"))


def test_a_cancelled_job_saves_and_leaves_nothing(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=100000")
    job.wait_for_rows(5)
    cluster.run("scancel", job.id)
    job.wait_for("CANCELLED")
    wait_until(lambda: not cluster.processes("mineonline"), lambda: str(cluster.processes("mineonline")))
    assert int(weights(job.run_dir)["policy.version"]) == rows(job.run_dir) >= 5
    assert not cluster.run("squeue", "--noheader", f"--jobs={job.id}")
    assert not (job.run_dir / "join").exists()


def test_settings_that_cannot_work_are_one_error_and_no_requeue(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iteration=5")
    job.wait_for("FAILED")
    assert job.output.count("error: iteration: there is no such key. Did you mean iterations?") == 1, job.output
    assert job.restarts == 0


def test_a_killed_rank_ends_the_job_which_starts_again_if_it_has_saved(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=40", "checkpointing.every=1")
    job.wait_for_rows(8)
    (rank_1,) = [
        pid for pid, variables in cluster.processes("mineonline.train").items() if variables.get("SLURM_PROCID") == "1"
    ]
    os.kill(rank_1, signal.SIGKILL)
    job.wait_for("COMPLETED")
    assert job.restarts == 1, job.output
    check_counters(job.run_dir, 40)


def test_a_job_starts_again_only_as_often_as_it_may(cluster, tmp_path, monkeypatch):
    monkeypatch.setitem(cluster.env, "MINEONLINE_MAX_REQUEUES", "0")
    job = Job(cluster, tmp_path, "iterations=100000")
    job.wait_for_rows(3)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    job.wait_for("FAILED")
    assert "was started again 0 times (MINEONLINE_MAX_REQUEUES): it ends" in job.output
    assert int(weights(job.run_dir)["policy.version"]) == rows(job.run_dir)
