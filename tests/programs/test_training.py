"""The whole program, as a user runs it: real processes, signals and files."""

import signal
from pathlib import Path

import pytest
import yaml

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import has_spare, leaves_nothing, processes_of, rows, weights
from tests.helpers.settings import CARTPOLE, QUICK


def test_the_default_command_leaves_a_complete_run_folder_and_no_process(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start("iterations=2", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    assert "finished after 2 iterations" in run.output
    for name in ("config.yaml", "metrics.csv", "curve.png", "done", "checkpoints/last.ckpt", "logs/trainer-0.log",
                 "logs/collector-0.log", "logs/collector-0-worker-1.log"):  # fmt: skip
        assert (run_dir / name).is_file(), name
    assert len(list((run_dir / "videos").glob("*.mp4"))) == 1
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [row["iteration"] for row in metrics] == ["1", "2"]
    assert {"loss/total", "episode/return", "env_steps_per_s", "lag_versions", "dropped/stale"} <= set(metrics[0])
    assert leaves_nothing(run_dir)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_leaves_nothing_and_the_run_goes_on_from_it(start, tmp_path, number):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.spare=true", "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3 and has_spare(run_dir))
    assert len(processes_of(run_dir)) >= 3
    run.send(number)
    assert run.wait() == 128 + number, run.output
    assert leaves_nothing(run_dir)
    saved = int(weights(run_dir)["policy.version"])
    assert saved == rows(run_dir)
    steps = float(read_metrics(run_dir / "metrics.csv")[-1]["env_steps"])
    again = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", f"iterations={saved + 3}")
    assert again.wait() == 0, again.output
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [int(row["iteration"]) for row in metrics] == list(range(1, saved + 4))
    assert float(metrics[-1]["env_steps"]) > steps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_before_the_first_import_ends_it_as_a_later_one_does(start, tmp_path, number):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: processes_of(run_dir))  # the moment when it has re-executed itself
    run.send(number)
    assert run.wait() == 128 + number, run.output
    assert leaves_nothing(run_dir)


def test_a_second_trainer_for_a_run_folder_is_refused_and_the_first_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    first = start(*QUICK, "iterations=100000", "checkpointing.every=1", f"run_dir={run_dir}")
    first.wait_for((run_dir / "checkpoints" / "last.ckpt").exists)
    there = f"error: run_dir={run_dir}: a trainer is running there (process {first.process.pid} on "
    for words in ([*QUICK, f"run_dir={run_dir}"], [f"checkpoint={run_dir}"]):
        second = start(*words)
        assert second.wait() == 1, second.output
        assert there in second.output
    before = rows(run_dir)
    first.wait_for(lambda: rows(run_dir) > before)
    first.send(signal.SIGTERM)
    assert first.wait() == 128 + signal.SIGTERM, first.output
    assert leaves_nothing(run_dir)
    assert int(weights(run_dir)["policy.version"]) == rows(run_dir)


def test_a_finished_run_goes_on_when_it_is_given_more_iterations(start, tmp_path):
    run = start(*QUICK, "iterations=3", "run_dir=here")
    assert run.wait() == 0, run.output
    (tmp_path / "elsewhere").mkdir()
    again = start(f"checkpoint={tmp_path}/here")
    assert again.wait() == 0, again.output
    assert "the run is complete (3 iterations). Give iterations=<more> to continue it." in again.output
    assert rows(tmp_path / "here") == 3
    more = start(f"checkpoint={tmp_path}/here/checkpoints/last.ckpt", "+trainer.max_time=00:00:10:00", "iterations=6")
    assert more.wait() == 0, more.output
    assert rows(tmp_path / "here") == 6
    assert int(weights(tmp_path / "here")["policy.version"]) == 6
    assert not (tmp_path / "elsewhere" / "here").exists()


@pytest.mark.slow
def test_the_latest_run_goes_on_as_the_same_run_of_wandb_which_asks_nothing(start, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = start(*QUICK, "iterations=2", "logger=wandb")
    assert run.wait() == 0, run.output
    more = start("checkpoint=latest", "iterations=3")
    assert more.wait() == 0, more.output
    (run_dir,) = (tmp_path / "runs" / "CartPole-v1").iterdir()
    assert more.output.count("checkpoint=latest: runs/CartPole-v1/") == 1, more.output
    assert "finished after 3 iterations" in more.output
    assert rows(run_dir) == 3
    sessions = sorted(folder.name for folder in (run_dir / "wandb").glob("offline-run-*"))
    assert len(sessions) == 2
    assert {name.rpartition("-")[2] for name in sessions} == {(run_dir / "wandb_id").read_text()}


@pytest.mark.slow
def test_every_job_of_a_sweep_can_be_resumed_with_its_own_settings(start, tmp_path):
    run = start("-m", *QUICK, "iterations=1", "seed=1,2", "trainer.max_time=00:00:10:00")
    assert run.wait() == 0, run.output
    first, second = sorted(file.parent for file in (tmp_path / "runs" / "sweeps").glob("*/*/metrics.csv"))
    more = start(f"checkpoint={second}", "iterations=2")
    assert more.wait() == 0, more.output
    assert (rows(first), rows(second)) == (1, 2)
    assert yaml.safe_load((second / "config.yaml").read_text())["seed"] == 2


def test_a_run_ends_at_its_time_limit_and_can_be_continued(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", "trainer.max_time=00:00:00:02", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    done = rows(run_dir)
    assert f"stopped at the limit trainer.max_time, after {done} iterations" in run.output
    last = run_dir / "checkpoints" / "last.ckpt"
    assert f"continue with: python -m mineonline.train checkpoint={last} trainer.max_time=<more>" in run.output
    assert int(weights(run_dir)["policy.version"]) == done
    assert not (run_dir / "done").exists()
    assert leaves_nothing(run_dir)
    more = start(f"checkpoint={last}", "trainer.max_time=null", f"iterations={done + 2}")
    assert more.wait() == 0, more.output
    assert f"finished after {done + 2} iterations" in more.output
    assert (run_dir / "done").exists()


@pytest.mark.slow
def test_a_run_that_lightning_ends_early_saves_its_last_iteration_and_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    steps = 2 * 4 * 3  # epochs, minibatches, iterations
    run = start(*QUICK, f"trainer.max_steps={steps}", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    assert "stopped at the limit trainer.max_steps, after 3 iterations" in run.output
    assert int(weights(run_dir)["policy.version"]) == 3
    more = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", "trainer.max_steps=-1", "iterations=5")
    assert more.wait() == 0, more.output
    assert rows(run_dir) == 5


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(start, tmp_path, monkeypatch):
    folder = tmp_path / ("a" * 80)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 2)
    sockets = Path((run_dir / "join").read_text().removeprefix("ipc://")).parent
    folders = {Path(process.cmdline()[-1]) for process in processes_of(run_dir) if process.name() == "sh"}
    assert len(folders) >= 2  # the trainer's, and its collectors'
    assert sockets in folders
    assert {folder.parent for folder in folders} == {Path("/tmp")}
    run.send(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM, run.output
    assert not sockets.exists()
    assert not any(folder.exists() for folder in folders)
    assert not any(folder.iterdir())


@pytest.mark.slow
def test_another_run_is_not_overwritten_by_resuming_into_its_folder(start, tmp_path):
    for name in ("a", "b"):
        assert start(*QUICK, "iterations=1", f"run_dir={tmp_path}/{name}").wait() == 0
    precious = (tmp_path / "b" / "metrics.csv").read_text()
    run = start(f"checkpoint={tmp_path}/a/checkpoints/last.ckpt", f"run_dir={tmp_path}/b", "iterations=2")
    assert run.wait() == 1
    assert "already holds a run" in run.output
    assert (tmp_path / "b" / "metrics.csv").read_text() == precious


def test_ctrl_c_before_training_begins_ends_everything_at_once(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, f"run_dir={run_dir}")
    run.wait_for(lambda: (run_dir / "logs" / "collector-0.log").exists())
    run.send(signal.SIGINT)
    assert run.wait() == 130, run.output
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_hunt_cow_is_learnt_as_well_where_each_world_plays_at_its_own_uneven_pace(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(
        "env=own", "env._target_=tests.helpers.jittery_world.JitteryWorld", "+env.kwargs.task=${task}", "task=hunt_cow",
        "objective.discount=0.98", "policy=tiny", "video.every=0", "iterations=90", f"run_dir={run_dir}",
    )  # fmt: skip
    assert run.wait() == 0, run.output
    kills = [float(row["episode/kill_entity/cow"]) for row in read_metrics(run_dir / "metrics.csv")]
    assert kills[9] < 0.3
    assert kills[-1] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("env", ["CartPole-v1", "tests.helpers.odd_envs:SleepyCartPole-v0"])
def test_training_improves_cartpole_also_where_each_environment_plays_at_its_own_pace(start, tmp_path, env):
    run_dir = tmp_path / "run"
    run = start(*CARTPOLE, f"env.id={env}", "iterations=120", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output
    returns = [float(row["episode/return"]) for row in read_metrics(run_dir / "metrics.csv")]
    assert returns[0] < 40
    assert returns[-1] > 150
