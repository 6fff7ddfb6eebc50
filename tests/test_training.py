"""The whole program, as a user runs it: real processes, signals and files."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch

from mineonline.metrics import read_metrics
from tests.conftest import CARTPOLE, ROOT, SMALL, processes_of, rows

QUICK = [*CARTPOLE, *SMALL]


def leaves_nothing(run_dir, within_s=10.0):
    deadline = time.monotonic() + within_s
    while processes_of(run_dir):
        assert time.monotonic() < deadline, [p.cmdline() for p in processes_of(run_dir)]
        time.sleep(0.1)
    return True


def weights(run_dir):
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_the_default_command_leaves_a_complete_run_folder_and_no_process(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start("iterations=2", f"run_dir={run_dir}")
    assert run.wait(280) == 0, run.output
    assert "finished after 2 iterations" in run.output
    for name in ("config.yaml", "metrics.csv", "curve.png", "done", "checkpoints/last.ckpt", "logs/trainer-0.log",
                 "logs/collector-0.log", "logs/collector-0-worker-1.log"):  # fmt: skip
        assert (run_dir / name).is_file(), name
    assert len(list((run_dir / "videos").glob("*.mp4"))) == 1
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [row["iteration"] for row in metrics] == ["1", "2"]
    assert {"loss/total", "episode/return", "env_steps_per_s", "lag_versions", "dropped/stale"} <= set(metrics[0])
    assert leaves_nothing(run_dir)


def test_a_terminal_shows_what_collectors_do_until_the_first_fragments_come(tmp_path):
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    run = subprocess.Popen(
        [sys.executable, "-m", "mineonline.train", *QUICK, "iterations=2", f"run_dir={tmp_path / 'run'}"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        with suppress(OSError):  # how a terminal says that nobody writes to it any more
            while select.select([terminal], [], [], 60.0)[0]:
                shown += os.read(terminal, 65536)
        text = shown.decode()
        assert run.wait(10) == 0, text
    finally:
        os.close(terminal)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    waiting, learning = text.find("waiting for fragments (collector-0: starting 8 environments)"), text.find("2/2 [")
    assert 0 < waiting < learning, text


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_leaves_nothing_and_the_run_goes_on_from_it(start, tmp_path, number):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3, 120)
    assert len(processes_of(run_dir)) >= 3
    run.send(number)
    assert run.wait(10) == 128 + number, run.output
    assert leaves_nothing(run_dir, within_s=2)
    saved = int(weights(run_dir)["policy.version"])
    assert saved == rows(run_dir)
    steps = float(read_metrics(run_dir / "metrics.csv")[-1]["env_steps"])
    again = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", f"iterations={saved + 3}")
    assert again.wait(120) == 0, again.output
    metrics = read_metrics(run_dir / "metrics.csv")
    assert [int(row["iteration"]) for row in metrics] == list(range(1, saved + 4))
    assert float(metrics[-1]["env_steps"]) > steps


def test_a_finished_run_goes_on_when_it_is_given_more_iterations(start, tmp_path):
    run = start(*QUICK, "iterations=3", "run_dir=here")
    assert run.wait(120) == 0, run.output
    (tmp_path / "elsewhere").mkdir()
    more = start(f"checkpoint={tmp_path}/here/checkpoints/last.ckpt", "+trainer.max_time=00:00:10:00", "iterations=6")
    assert more.wait(120) == 0, more.output
    assert rows(tmp_path / "here") == 6
    assert int(weights(tmp_path / "here")["policy.version"]) == 6
    assert not (tmp_path / "elsewhere" / "here").exists()


def test_the_latest_run_goes_on_as_the_same_run_of_wandb_which_asks_nothing(start, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = start(*QUICK, "iterations=2", "logger=wandb")
    assert run.wait(150) == 0, run.output
    more = start("checkpoint=latest", "iterations=3")
    assert more.wait(150) == 0, more.output
    (run_dir,) = (tmp_path / "runs" / "CartPole-v1").iterdir()
    assert more.output.count("checkpoint=latest: runs/CartPole-v1/") == 1, more.output
    assert "finished after 3 iterations" in more.output
    assert rows(run_dir) == 3
    sessions = sorted(folder.name for folder in (run_dir / "wandb").glob("offline-run-*"))
    assert len(sessions) == 2
    assert {name.rpartition("-")[2] for name in sessions} == {(run_dir / "wandb_id").read_text()}


@pytest.mark.slow
def test_a_run_that_lightning_ends_early_saves_its_last_iteration_and_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    steps = 2 * 4 * 3  # epochs, minibatches, iterations
    run = start(*QUICK, f"trainer.max_steps={steps}", f"run_dir={run_dir}")
    assert run.wait(120) == 0, run.output
    assert int(weights(run_dir)["policy.version"]) == 3
    more = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", "trainer.max_steps=-1", "iterations=5")
    assert more.wait(120) == 0, more.output
    assert rows(run_dir) == 5


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(start, tmp_path, monkeypatch):
    folder = tmp_path / ("a" * 80)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 2, 60)
    sockets = Path((run_dir / "join").read_text().removeprefix("ipc://")).parent
    collector = next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline())
    scratch = Path(collector.environ()["TMPDIR"])
    assert sockets.parent == scratch.parent == Path("/tmp")
    run.send(signal.SIGTERM)
    assert run.wait(20) == 128 + signal.SIGTERM, run.output
    assert not sockets.exists()
    assert not scratch.exists()
    assert not any(folder.iterdir())


@pytest.mark.slow
def test_another_run_is_not_overwritten_by_resuming_into_its_folder(start, tmp_path):
    for name in ("a", "b"):
        assert start(*QUICK, "iterations=1", f"run_dir={tmp_path}/{name}").wait(120) == 0
    precious = (tmp_path / "b" / "metrics.csv").read_text()
    run = start(f"checkpoint={tmp_path}/a/checkpoints/last.ckpt", f"run_dir={tmp_path}/b", "iterations=2")
    assert run.wait(60) == 1
    assert "already holds a run" in run.output
    assert (tmp_path / "b" / "metrics.csv").read_text() == precious


def test_ctrl_c_before_training_begins_ends_everything_at_once(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, f"run_dir={run_dir}")
    run.wait_for(lambda: (run_dir / "logs" / "collector-0.log").exists(), 60)
    run.send(signal.SIGINT)
    assert run.wait(10) == 130, run.output
    assert leaves_nothing(run_dir, within_s=2)


def test_two_ranks_train_on_different_fragments_and_stay_identical(start, tmp_path):
    run_dir = tmp_path / "run"
    compare = "{_target_: tests.compare_ranks.CompareRanks}"
    run = start(*QUICK, "iterations=6", f"run_dir={run_dir}", "trainer.devices=2", "trainer.accelerator=cpu",
                f"callbacks=[{compare}]")  # fmt: skip
    assert run.wait(150) == 0, run.output
    assert run.output.count("ranks identical: True, shares differ: True") == 6, run.output
    assert leaves_nothing(run_dir)


RANKS = ["trainer.devices=2", "trainer.accelerator=cpu"]


def test_ctrl_c_stops_two_ranks_after_the_same_iteration(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3, 150)
    run.send(signal.SIGINT)  # to rank 0 alone: it must take the other one along
    assert run.wait(15) == 130, run.output
    assert leaves_nothing(run_dir, within_s=3)
    assert int(weights(run_dir)["policy.version"]) == rows(run_dir)


def test_a_signal_to_rank_0_stops_ranks_that_wait_for_fragments(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "collector.count=0", f"run_dir={run_dir}")
    run.wait_for((run_dir / "join").exists, 90)
    time.sleep(2)
    run.send(signal.SIGTERM)
    assert run.wait(10) == 143, run.output
    assert leaves_nothing(run_dir, within_s=3)


def test_a_killed_rank_ends_the_run_and_leaves_nothing(start, tmp_path):
    run_dir = tmp_path / "run"
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run = start(*QUICK, *RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3, 150)
    (other,) = [child for child in psutil.Process(run.process.pid).children() if "mineonline.train" in child.cmdline()]
    other.kill()
    assert run.wait(20) != 0
    assert leaves_nothing(run_dir, within_s=10)
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before


def test_an_error_of_rank_0_ends_all_ranks(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, *RANKS, "env.id=tests.odd_envs:Raising-v0", "fragment.length=64", "collector.max_failures=1",
                f"run_dir={run_dir}")  # fmt: skip
    assert run.wait(150) == 1
    assert "the sky has fallen on this environment" in run.output
    assert leaves_nothing(run_dir, within_s=10)


def test_steps_whose_gradient_is_not_finite_are_skipped_by_all_ranks_and_counted(start, tmp_path):
    run_dir = tmp_path / "run"
    compare = "{_target_: tests.compare_ranks.CompareRanks}"
    poison = f"callbacks=[{{_target_: tests.poison.Poison, first: 1, last: 2}},{compare}]"
    run = start(*QUICK, *RANKS, poison, "iterations=4", f"run_dir={run_dir}")
    assert run.wait(150) == 0, run.output
    skipped = [float(row["loss/skipped_steps"]) for row in read_metrics(run_dir / "metrics.csv")]
    assert skipped[1] > 0
    assert skipped[0] == skipped[2] == skipped[3] == 0
    assert run.output.count("ranks identical: True") == 4, run.output
    assert all(leaf.isfinite().all() for leaf in weights(run_dir).values())


def test_gradients_that_stay_non_finite_end_the_run_and_save_the_fragments(start, tmp_path):
    run_dir = tmp_path / "run"
    poison = "callbacks=[{_target_: tests.poison.Poison, first: 1, last: 99}]"
    run = start(*QUICK, poison, "optimizer.max_bad_steps=10", f"run_dir={run_dir}")
    assert run.wait(150) == 1
    assert "Not finite in the fragments: reward_BT" in run.output
    assert "actor.0.weight" in run.output
    saved = torch.load(run_dir / "bad_batch-0.pt", weights_only=True)
    assert not saved["fragments"]["reward_BT"].isfinite().all()
    replay = start(f"file={run_dir / 'bad_batch-0.pt'}", module="mineonline.replay")
    assert replay.wait(60) == 0
    assert "fragments: reward_BT has 1 of 128 not finite, the first at (0, 0)" in replay.output
    assert "fragment 0 (environment 0), sequence 0: losses not finite: total, policy" in replay.output
    assert leaves_nothing(run_dir, within_s=5)


def test_a_killed_collector_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3, 120)
    victim = next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline())
    workers = victim.children(recursive=True)
    victim.kill()
    run.wait_for(lambda: not any(w.is_running() for w in workers), 5)
    before = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > before + 5, 60)
    run.send(signal.SIGTERM)
    run.wait(10)


def test_a_killed_worker_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3, 120)
    collector = next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline())
    max(collector.children(recursive=True), key=lambda p: p.memory_info().rss).kill()
    before = rows(run_dir)
    run.wait_for(lambda: not collector.is_running(), 10)
    run.wait_for(lambda: rows(run_dir) > before + 5, 60)
    run.send(signal.SIGTERM)
    run.wait(10)
    assert "worker 0 ended with exit code -9" in (run_dir / "logs" / "collector-0.log").read_text()


def test_when_the_trainer_is_killed_its_collectors_and_sockets_go_too_and_its_run_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", "checkpointing.every=3", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 4, 120)
    sockets = Path((run_dir / "join").read_text().removeprefix("ipc://")).parent
    assert sockets.is_dir()
    run.process.kill()
    assert leaves_nothing(run_dir, within_s=8)
    assert not sockets.exists()
    before = read_metrics(run_dir / "metrics.csv")
    saved = int(weights(run_dir)["policy.version"])
    again = start(f"checkpoint={run_dir}", f"iterations={saved + 2}")
    assert again.wait(120) == 0, again.output
    after = read_metrics(run_dir / "metrics.csv")
    assert [int(row["iteration"]) for row in after] == list(range(1, saved + 3))
    assert after[:saved] == before[:saved]
    steps = [float(row["env_steps"]) for row in after]
    assert steps == sorted(set(steps))  # goes on counting


def test_collectors_join_a_run_that_started_none_and_leave_when_it_is_complete(start, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=8", "collector.count=0", f"run_dir={run_dir}")
    run.wait_for(lambda: "waiting for collectors" in run.output, 60)
    assert f"python -m mineonline.collect run={run_dir}" in run.output
    collectors = [start(f"run={run_dir}", module="mineonline.collect") for _ in range(2)]
    assert run.wait(150) == 0, run.output
    for collector in collectors:
        assert collector.wait(15) == 0, collector.output
        assert "the run is complete" in collector.output
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_the_trainer_gives_its_own_collectors_the_keys_for_tcp(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=3", "network.host=127.0.0.1", f"run_dir={run_dir}")
    assert run.wait(120) == 0, run.output


def test_collectors_join_over_tcp_with_the_keys_in_the_run_folder(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=3", "collector.count=0", "network.host=127.0.0.1", f"run_dir={run_dir}")
    run.wait_for(lambda: (run_dir / "join").exists(), 60)
    assert (run_dir / "join").read_text().startswith("tcp://127.0.0.1:")
    collector = start(f"run={run_dir}", module="mineonline.collect")
    assert run.wait(120) == 0, run.output
    assert collector.wait(15) == 0, collector.output


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_collectors_find_the_trainer_again_that_ended_and_was_resumed(start, tmp_path, number):
    run_dir = tmp_path / "run"
    arguments = [*QUICK, "collector.count=0", "checkpointing.every=1", f"run_dir={run_dir}"]
    run = start(*arguments, "iterations=100000")
    run.wait_for((run_dir / "join").exists, 60)
    collector = start(f"run={run_dir}", module="mineonline.collect")
    run.wait_for(lambda: rows(run_dir) > 3, 60)
    run.send(number)
    run.wait(10)
    assert collector.process.poll() is None
    reached = rows(run_dir)
    again = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", f"iterations={reached + 5}")
    assert again.wait(120) == 0, again.output + collector.output
    assert collector.wait(20) == 0, collector.output
    assert "joining again" in collector.output


def test_a_hung_environment_is_noticed_and_its_collector_replaced(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.odd_envs:Hanging-v0", "collector.batch_timeout_s=4", "iterations=100000",
                f"run_dir={run_dir}")  # fmt: skip
    log = run_dir / "logs" / "collector-0.log"
    run.wait_for(lambda: log.exists() and "an environment hangs" in log.read_text(), 90)
    run.wait_for(lambda: log.read_text().count("joined run") == 2, 60)
    before = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > before, 60)
    run.send(signal.SIGTERM)
    run.wait(10)
    assert leaves_nothing(run_dir, within_s=2)


def test_an_environment_that_keeps_failing_ends_the_run_with_its_own_error(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.odd_envs:Raising-v0", "fragment.length=64", "collector.max_failures=1",
                f"run_dir={run_dir}")  # fmt: skip
    assert run.wait(120) == 1
    assert run.output.count("error: a collector cannot run") == 1, run.output
    assert "the sky has fallen on this environment" in run.output
    assert str(run_dir / "logs" / "collector-0-worker-0.log") in run.output
    assert leaves_nothing(run_dir, within_s=5)


def test_a_worker_that_cannot_start_ends_the_run_with_its_own_error(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.workers=2", "env.id=tests.odd_envs:FailsInTheSecondWorker-v0",
                "collector.max_failures=1", f"run_dir={run_dir}")  # fmt: skip
    assert run.wait(120) == 1, run.output
    assert "no sword left for the second worker" in run.output
    assert leaves_nothing(run_dir, within_s=5)


@pytest.mark.slow
def test_training_improves_cartpole(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*CARTPOLE, "iterations=120", f"run_dir={run_dir}")
    assert run.wait(280) == 0, run.output
    returns = [float(row["episode/return"]) for row in read_metrics(run_dir / "metrics.csv")]
    assert returns[0] < 40
    assert returns[-1] > 150
