"""Collectors that die, hang, join or lose their trainer, in runs of the whole program."""

import re
import signal
import tempfile
from pathlib import Path

import pytest

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import leaves_nothing, processes_of, rows, weights
from tests.helpers.settings import QUICK


def test_a_killed_collector_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    victim = next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline())
    workers = victim.children(recursive=True)
    victim.kill()
    run.wait_for(lambda: not any(w.is_running() for w in workers))
    before = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > before + 5)
    run.send(signal.SIGTERM)
    run.wait()


def test_a_killed_worker_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    collector = next(p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline())
    max(collector.children(recursive=True), key=lambda p: p.memory_info().rss).kill()
    before = rows(run_dir)
    run.wait_for(lambda: not collector.is_running())
    run.wait_for(lambda: rows(run_dir) > before + 5)
    run.send(signal.SIGTERM)
    run.wait()
    assert "worker 0 ended with exit code -9" in (run_dir / "logs" / "collector-0.log").read_text()


def test_when_the_trainer_is_killed_its_collectors_and_sockets_go_too_and_its_run_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", "checkpointing.every=3", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 4)
    sockets = Path((run_dir / "join").read_text().removeprefix("ipc://")).parent
    assert sockets.is_dir()
    run.process.kill()
    assert leaves_nothing(run_dir)
    assert not sockets.exists()
    before = read_metrics(run_dir / "metrics.csv")
    saved = int(weights(run_dir)["policy.version"])
    again = start(f"checkpoint={run_dir}", f"iterations={saved + 2}")
    assert again.wait() == 0, again.output
    after = read_metrics(run_dir / "metrics.csv")
    assert [int(row["iteration"]) for row in after] == list(range(1, saved + 3))
    assert after[:saved] == before[:saved]
    steps = [float(row["env_steps"]) for row in after]
    assert steps == sorted(set(steps))  # it continues to count


def test_collectors_join_a_run_that_started_none_and_leave_when_it_is_complete(start, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=8", "collector.count=0", f"run_dir={run_dir}")
    run.wait_for(lambda: "waiting for collectors" in run.output)
    assert f"python -m mineonline.collect run={run_dir}" in run.output
    collectors = [start(f"run={run_dir}", module="mineonline.collect") for _ in range(2)]
    assert run.wait() == 0, run.output
    for collector in collectors:
        assert collector.wait() == 0, collector.output
        assert "the run is complete" in collector.output
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before
    assert leaves_nothing(run_dir)


def test_a_collector_that_a_user_started_removes_no_folder_when_its_terminal_closes(start, tmp_path):
    """One that the trainer started removes the trainer's socket folder: here that would be somebody else's."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").touch()
    collector = start(f"run=ipc://{folder}/join", module="mineonline.collect")
    collector.wait_for(lambda: "no answer from" in collector.output)
    collector.send(signal.SIGHUP)
    assert collector.wait() == 128 + signal.SIGHUP, collector.output
    assert (folder / "precious").exists()


@pytest.mark.slow
def test_the_trainer_gives_its_own_collectors_the_keys_for_tcp(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=3", "network.host=127.0.0.1", f"run_dir={run_dir}")
    assert run.wait() == 0, run.output


def test_collectors_join_over_tcp_with_the_keys_in_the_run_folder(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=3", "collector.count=0", "network.host=127.0.0.1", f"run_dir={run_dir}")
    run.wait_for(lambda: (run_dir / "join").exists())
    assert (run_dir / "join").read_text().startswith("tcp://127.0.0.1:")
    collector = start(f"run={run_dir}", module="mineonline.collect")
    assert run.wait() == 0, run.output
    assert collector.wait() == 0, collector.output


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_collectors_find_the_trainer_again_that_ended_and_was_resumed(start, tmp_path, number):
    run_dir = tmp_path / "run"
    arguments = [*QUICK, "collector.count=0", "checkpointing.every=1", f"run_dir={run_dir}"]
    run = start(*arguments, "iterations=100000")
    run.wait_for((run_dir / "join").exists)
    collector = start(f"run={run_dir}", module="mineonline.collect")
    run.wait_for(lambda: rows(run_dir) > 3)
    run.send(number)
    run.wait()
    assert collector.process.poll() is None
    reached = rows(run_dir)
    again = start(f"checkpoint={run_dir}/checkpoints/last.ckpt", f"iterations={reached + 5}")
    assert again.wait() == 0, again.output + collector.output
    assert collector.wait() == 0, collector.output
    assert "joining again" in collector.output


def test_an_environment_that_cannot_be_interrupted_is_noticed_and_its_collector_replaced(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.helpers.odd_envs:Stuck-v0", "collector.batch_timeout_s=4", "env.step_timeout_s=1",
                "iterations=100000", f"run_dir={run_dir}")  # fmt: skip
    log = run_dir / "logs" / "collector-0.log"
    run.wait_for(lambda: log.exists() and "an environment hangs" in log.read_text())
    run.wait_for(lambda: log.read_text().count("joined run") == 2)
    before = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > before)
    run.send(signal.SIGTERM)
    run.wait()
    assert leaves_nothing(run_dir)


def test_an_environment_that_keeps_failing_ends_the_run_with_its_own_error(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.helpers.odd_envs:NeverPlays-v0", "env.max_failures=3", f"run_dir={run_dir}")
    assert run.wait() == 1
    assert run.output.count("error: a collector cannot run") == 1, run.output
    assert "environment 0 failed 3 times without a decision in between (env.max_failures)" in run.output
    assert "RuntimeError: the sky has fallen on this environment (odd_envs.py:" in run.output
    assert leaves_nothing(run_dir)


def test_a_worker_that_cannot_start_ends_the_run_with_its_own_error(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.workers=2", "env.id=tests.helpers.odd_envs:FailsInTheSecondWorker-v0",
                "env.max_failures=2", f"run_dir={run_dir}")  # fmt: skip
    assert run.wait() == 1, run.output
    assert "no sword left for the second worker" in run.output
    assert leaves_nothing(run_dir)


def test_environments_that_fail_in_every_way_cost_their_own_episodes_only(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.helpers.odd_envs:Faulty-v0", "+env.kwargs.random=true", "env.step_timeout_s=0.5",
                "iterations=150", f"run_dir={run_dir}")  # fmt: skip
    assert run.wait() == 0, run.output
    last = read_metrics(run_dir / "metrics.csv")[-1]
    assert float(last["collector_restarts"]) == float(last["dropped/refused"]) == 0
    shown = re.findall(r"WARNING: environment \d+ failed: (.*); its episode was cut, it starts anew", run.output)
    assert len(shown) == len(set(shown)), "each reason once"
    assert float(last["env_failures"]) > 2 * len(shown)
    for reason in ("KeyError: 'sword' (odd_envs.py:", "SystemExit: 3", "no answer within env.step_timeout_s=0.5",
                   "'state' is not finite", "its reward is nan", "'state' has shape (1,)", "'state' holds <U1",
                   "FileNotFoundError: the level is gone"):  # fmt: skip
        assert any(reason in each for each in shown), (reason, shown)
    assert "KeyError: 'sword'\n" in (run_dir / "logs" / "collector-0-worker-0.log").read_text(), "the whole traceback"
    assert leaves_nothing(run_dir)
