"""Sweeps (`-m`): jobs that are named, folders that cannot collide, a table at the end, and nothing left elsewhere."""

import re
import threading

import pytest
import yaml

from mineonline.atomic import new_folder
from mineonline.run.metrics import mean_of_last
from tests.helpers.settings import QUICK

WORDS = [*QUICK, "iterations=2"]


def jobs_of(tmp_path):
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    return {file.parent: yaml.safe_load(file.read_text()) for file in sorted(sweep.glob("*/job.yaml"))}


def test_a_sweep_says_which_job_runs_goes_on_after_a_failure_and_ends_with_a_table(tmp_path, start):
    run = start("-m", *WORDS, "optimizer.minibatches=2,3", "seed=1", "sweep.last=2")
    assert run.wait() == 1
    jobs = jobs_of(tmp_path)
    (good, bad) = jobs
    assert f"job 1 of 2: {' '.join(jobs[good]['overrides'])}, in {good}\n" in run.output
    assert f"job 2 of 2: {' '.join(jobs[bad]['overrides'])}, in {bad}\n" in run.output
    assert jobs[good]["value"] == mean_of_last(good / "metrics.csv", "episode/return", 2)
    assert "optimizer.minibatches=3 times" in jobs[bad]["error"]
    table = run.output.partition("\n2 jobs in ")[2]
    assert re.search(r"^   1 +[\d.]+  .*minibatches=2 seed=1", table, re.MULTILINE), run.output
    assert re.search(r"^   2 +failed  .*minibatches=3 seed=1", table, re.MULTILINE), run.output
    assert "Traceback" not in run.output
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == ["runs"]
    # a job is a run like any other
    again = start(f"checkpoint={good}", "iterations=3")
    assert again.wait() == 0, again.output


def test_a_sweep_or_a_run_that_never_started_leaves_no_folder(tmp_path, start):
    runs = [start(*words) for words in (["-m", "seed=1,2", "iteration=5"], ["optimizer.minibatches=3", *QUICK])]
    assert [run.wait() for run in runs] == [1, 1]
    assert "iteration: there is no such key" in runs[0].output
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "output" not in file.name]


def test_optuna_is_told_the_metric_of_each_job(tmp_path, start):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'mineonline[sweeps]'")
    run = start(*WORDS, "hparams_search=optuna", "hydra.sweeper.n_trials=2", "sweep.metric=episode/length")
    assert run.wait() == 0, run.output
    jobs = jobs_of(tmp_path)
    assert "job 2 of 2: " in run.output
    (sweep,) = {folder.parent for folder in jobs}
    found = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert found["best_value"] == max(job["value"] for job in jobs.values())
    assert set(found["best_params"]) == {"optimizer.learning_rate", "objective.entropy_coef", "optimizer.epochs"}


def test_joblib_runs_jobs_at_the_same_time(tmp_path, start):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'mineonline[sweeps]'")
    run = start("-m", *WORDS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2")
    assert run.wait() == 0, run.output
    assert len(jobs_of(tmp_path)) == 2
    assert all("value" in job for job in jobs_of(tmp_path).values())


def test_two_processes_that_start_in_the_same_second_get_two_folders(tmp_path):
    made = []
    threads = [threading.Thread(target=lambda: made.append(new_folder(tmp_path / "a" / "now"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {folder.name for folder in made} == {"now", *(f"now_{number}" for number in range(2, 9))}
