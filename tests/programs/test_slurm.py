"""`slurm/train.sh` and `slurm/collect.sh` on a Slurm cluster of three nodes on this machine.

All of them, as root, with the packages that `tests/helpers/slurm_cluster.py` names:

    pytest -m slow tests/programs/test_slurm.py
"""

import os
import re
import signal
import tempfile
from pathlib import Path

import pytest
import yaml

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import rows, wait_until, weights
from tests.helpers.settings import QUICK, ROOT
from tests.helpers.slurm_cluster import SlurmCluster, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=f"no Slurm cluster here: {why_not()}")]


@pytest.fixture(scope="module")
def cluster():
    with SlurmCluster(3) as opened:
        opened.env["PYTHONPATH"] = str(ROOT)
        yield opened


class Job:
    """A job of `slurm/train.sh` on two nodes, with all of their CPUs, unless `options` of sbatch say otherwise."""

    def __init__(self, cluster, folder, *words, options=()):
        self._cluster = cluster
        self._folder = folder
        options = ["--nodes=2", "--cpus-per-task=16", *options]
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

    def wait_for(self, state):
        """Fails the test with the job's output if it ends otherwise."""
        ends = ("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")
        wait_until(lambda: self._cluster.state(self.id) in ends, lambda: self.output)
        assert self._cluster.state(self.id) == state, self.output

    def wait_for_rows(self, count):
        wait_until(lambda: rows(self.run_dir) >= count, lambda: self.output)

    def wait_for_collectors(self, count):
        """Until so many have joined, and some iterations more."""
        wait_until(lambda: self.output.count("the first fragments are sent") >= count, lambda: self.output)
        self.wait_for_rows(rows(self.run_dir) + 3)

    def cancel(self):
        """It saves, and ends."""
        self._cluster.run("scancel", self.id)
        self.wait_for("CANCELLED")
        wait_until(lambda: not self._cluster.run("squeue", "--noheader", "--states=COMPLETING", f"--jobs={self.id}"))


def check_counters(run_dir, iterations):
    """Every iteration has been done once, whatever came between."""
    assert [int(row["iteration"]) for row in read_metrics(run_dir / "metrics.csv")] == list(range(1, iterations + 1))
    assert int(weights(run_dir)["policy.version"]) == iterations


def test_a_preempted_job_is_requeued_and_continues_where_it_was(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=60", options=["--partition=low"])
    job.wait_for_rows(12)
    # in `main`, which has priority
    urgent = cluster.run("sbatch", "--parsable", "--nodes=3", "--exclusive", "--wrap=sleep 3", cwd=tmp_path)
    job.wait_for("COMPLETED")
    assert cluster.state(urgent) == "COMPLETED"
    assert job.restarts == 1, job.output
    assert job.output.count("joined run") == 4, job.output  # a collector on each node, twice
    check_counters(job.run_dir, 60)
    assert not cluster.processes("mineonline")


def test_a_warned_job_is_requeued_and_collectors_of_another_job_follow_it(cluster, tmp_path, monkeypatch):
    monkeypatch.setitem(cluster.env, "MINEONLINE_COLLECTORS", "0")
    job = Job(cluster, tmp_path, "iterations=60", options=["--cpus-per-task=4"])
    wait_until((job.run_dir / "join").exists, lambda: job.output)
    array = cluster.run("sbatch", "--parsable", "--array=0-1", "--cpus-per-task=2",
                        f"{ROOT}/slurm/collect.sh", f"run={job.run_dir}", cwd=tmp_path)  # fmt: skip
    job.wait_for_rows(12)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    job.wait_for("COMPLETED")
    assert job.restarts == 1, job.output
    check_counters(job.run_dir, 60)
    wait_until(lambda: not cluster.run("squeue", "--noheader", f"--jobs={array}"))


def test_collectors_that_are_preempted_come_back(cluster, tmp_path, monkeypatch):
    monkeypatch.setitem(cluster.env, "MINEONLINE_COLLECTORS", "0")
    job = Job(cluster, tmp_path, "iterations=100000", options=["--nodes=1", "--nodelist=n1"])
    wait_until((job.run_dir / "join").exists, lambda: job.output)
    low = ["--array=0-1", "--partition=low", "--cpus-per-task=16"]
    array = cluster.run("sbatch", "--parsable", *low, f"{ROOT}/slurm/collect.sh", f"run={job.run_dir}", cwd=tmp_path)
    job.wait_for_rows(5)
    urgent = cluster.run("sbatch", "--parsable", "--nodes=2", "--exclusive", "--wrap=sleep 3", cwd=tmp_path)
    wait_until(lambda: cluster.state(urgent) == "COMPLETED")
    wait_until(lambda: "a collector is there again" in job.output, lambda: job.output)
    trained = rows(job.run_dir)
    job.wait_for_rows(trained + 5)
    assert cluster.state(job.id) == "RUNNING"
    assert {cluster.field(f"{array}_{k}", "Restarts") for k in (0, 1)} == {"1"}
    cluster.run("scancel", job.id, array)
    job.wait_for("CANCELLED")
    wait_until(lambda: not cluster.processes("mineonline"), lambda: str(cluster.processes("mineonline")))


def test_a_cancelled_job_saves_and_leaves_nothing(cluster, tmp_path):
    def left(k):
        return cluster.listening(k), cluster.shared_memory(k)

    nodes = (1, 2, 3)
    before = [left(k) for k in nodes]
    files = set(os.listdir(tempfile.gettempdir()))
    job = Job(cluster, tmp_path, "iterations=100000")
    job.wait_for_rows(5)
    assert [left(k) for k in nodes] != before
    cluster.run("scancel", job.id)
    job.wait_for("CANCELLED")
    wait_until(lambda: not cluster.processes("mineonline"), lambda: str(cluster.processes("mineonline")))
    assert int(weights(job.run_dir)["policy.version"]) == rows(job.run_dir) >= 5
    assert not cluster.run("squeue", "--noheader", f"--jobs={job.id}")
    assert not (job.run_dir / "join").exists()
    wait_until(lambda: [left(k) for k in nodes] == before, lambda: str((before, [left(k) for k in nodes])))
    assert set(os.listdir(tempfile.gettempdir())) == files


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


def test_a_signal_while_the_job_starts_is_not_lost(cluster, tmp_path, monkeypatch):
    setting_up = tmp_path / "setting_up"
    setup = tmp_path / "setup.sh"
    setup.write_text(f"[ -e {setting_up} ] || {{ touch {setting_up}; sleep 2; }}\n")
    monkeypatch.setitem(cluster.env, "MINEONLINE_SETUP", str(setup))
    job = Job(cluster, tmp_path, "iterations=3")
    wait_until(setting_up.exists, lambda: job.output)
    cluster.run("scancel", "--batch", "--signal=USR1", job.id)
    wait_until(lambda: job.restarts == 1, lambda: job.output)
    assert not job.run_dir.exists() or rows(job.run_dir) == 0
    wait_until(lambda: cluster.processes("mineonline.train"), lambda: job.output)
    cluster.run("scancel", "--batch", "--signal=USR2", job.id)
    job.wait_for("COMPLETED")
    assert job.restarts == 2, job.output
    check_counters(job.run_dir, 3)


def test_the_signal_and_the_time_of_the_warning_are_options_of_sbatch(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=100000", options=["--time=1", "--signal=B:USR2@30"])
    wait_until(lambda: job.restarts >= 1, lambda: job.output)
    cluster.run("scontrol", "update", f"JobId={job.id}", "TimeLimit=60")  # a busy machine needs more to do anything
    job.wait_for_rows(rows(job.run_dir) + 5)
    job.cancel()
    done = rows(job.run_dir)
    check_counters(job.run_dir, done)


def test_three_nodes_train_together_with_words_before_python(cluster, tmp_path, monkeypatch):
    (tmp_path / "container.sh").write_text(f'echo "$@" >> {tmp_path}/ran && exec "$@"')
    monkeypatch.setitem(cluster.env, "MINEONLINE_RUN", f"bash {tmp_path}/container.sh")
    words = ["iterations=100000", "buffer.fragments_per_iteration=12",
             "callbacks=[{_target_: tests.helpers.compare_ranks.CompareRanks}]"]  # fmt: skip
    job = Job(cluster, tmp_path, *words, options=["--nodes=3"])
    job.wait_for_collectors(3)
    wait_until(lambda: job.output.count("relays run") == 3, lambda: job.output)
    job.wait_for_rows(rows(job.run_dir) + 3)
    job.cancel()
    done = rows(job.run_dir)
    assert job.output.count("ranks identical: True, batches differ: True") == done, job.output
    ran = [line.split()[2] for line in (tmp_path / "ran").read_text().splitlines()]
    assert sorted(ran) == ["mineonline.collect"] * 3 + ["mineonline.relay"] * 3 + ["mineonline.train"] * 3
    check_counters(job.run_dir, done)


def test_a_job_whose_node_dies_goes_on_elsewhere(cluster, tmp_path):
    job = Job(cluster, tmp_path, "iterations=40", "checkpointing.every=1", options=["--nodes=1"])
    job.wait_for_rows(8)
    node = int(cluster.field(job.id, "NodeList").removeprefix("n"))
    cluster.kill_node(node)
    try:
        wait_until(lambda: job.restarts == 1, lambda: job.output)
        job.wait_for("COMPLETED")
    finally:
        cluster.start_node(node)
    check_counters(job.run_dir, 40)


def test_two_jobs_share_their_nodes(cluster, tmp_path):
    jobs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        jobs.append(
            Job(cluster, tmp_path / name, "iterations=100000", options=["--cpus-per-task=4", "--nodelist=n[1-2]"])
        )
    for job in jobs:
        job.wait_for_collectors(2)
    assert [cluster.state(job.id) for job in jobs] == ["RUNNING"] * 2
    for job in jobs:
        job.cancel()
        check_counters(job.run_dir, rows(job.run_dir))


@pytest.fixture
def start_sweep(cluster, start, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'mineonline[cluster]'")
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.env[name])
    return lambda *words: start("-m", "hydra/launcher=submitit_slurm", *QUICK, *words)


def test_a_sweep_is_a_job_for_each_value_and_a_warned_one_goes_on(cluster, start_sweep, tmp_path):
    sweep = start_sweep("iterations=60", "seed=1,2")
    folder = tmp_path / "runs" / "slurm"

    def run_dirs():
        return sorted(folder.glob("*_[01]"))

    sweep.wait_for(lambda: len(run_dirs()) == 2 and min(map(rows, run_dirs())) >= 5)
    first, second = run_dirs()
    cluster.run("scancel", "--signal=USR2", first.name)  # as Slurm warns: every process of the job
    assert sweep.wait() == 0, sweep.output
    assert cluster.field(first.name, "Restarts") == "1"
    assert cluster.field(second.name, "Restarts") == "0"
    for seed, run_dir in enumerate((first, second), 1):
        check_counters(run_dir, 60)
        assert yaml.safe_load((run_dir / "config.yaml").read_text())["seed"] == seed
    assert not cluster.processes("mineonline")


def test_a_job_of_a_sweep_that_fails_is_one_error_where_the_sweep_was_started(start_sweep):
    sweep = start_sweep("iterations=0,-1")
    assert sweep.wait() == 1
    said = re.search(r"^error: .*: training ended with exit code 1. Its output is in (.*)\.$", sweep.output, re.M)
    assert said, sweep.output
    assert "Traceback" not in sweep.output
    (output,) = Path(said[1]).glob("*_log.err")
    assert "error: iterations=0: must be at least 1." in output.read_text()
