"""Collectors that die, hang, join or lose their trainer, in runs of the whole program."""

import re
import signal
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from mineonline.run.metrics import read_metrics
from tests.helpers.programs import (
    collector_of,
    has_spare,
    leaves_nothing,
    processes_of,
    rows,
    wait_until,
    weights,
    workers_of,
)
from tests.helpers.settings import QUICK


def test_a_killed_collector_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.spare=true", "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    run.wait_for(lambda: has_spare(run_dir))
    victim = collector_of(run_dir)
    others = victim.children(recursive=True)
    victim.kill()
    run.wait_for(lambda: not any(p.is_running() for p in others))
    log = run_dir / "logs" / "collector-0.log"
    run.wait_for(lambda: log.read_text().count("the first fragments are sent") == 2)
    run.send(signal.SIGTERM)
    run.wait()
    assert "WARNING: a collector was killed (SIGKILL); another is started now; its log is " in run.output
    # the spare took its place: nothing was imported again
    spare_log = run_dir / "logs" / "spare.log"
    assert spare_log.read_text().count("waiting for a place") == log.read_text().count("waiting for a place") + 1
    assert leaves_nothing(run_dir)


def test_a_stopped_collector_is_replaced_and_another_one_stays(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.count=2", "collector.workers=1", "iterations=100000", f"run_dir={run_dir}")
    logs = [run_dir / "logs" / f"collector-{i}.log" for i in range(2)]
    run.wait_for(lambda: all(log.exists() and "the first fragments are sent" in log.read_text() for log in logs))
    first, second = (p for p in processes_of(run_dir) if "mineonline.collect" in p.cmdline() and workers_of(p))
    first.suspend()
    run.wait_for(lambda: "a collector was stopped or frozen for 20 s, and killed; another is started" in run.output)
    assert not first.is_running()
    assert second.is_running()
    before = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > before + 3)
    run.send(signal.SIGTERM)
    run.wait()
    assert run.output.count("another is started") == 1
    assert leaves_nothing(run_dir)


@pytest.mark.parametrize("processes", ["true", "false"])
def test_what_environments_have_started_ends_with_the_run(start, tmp_path, processes):
    run_dir = tmp_path / "run"
    run = start(
        *QUICK, "env.id=tests.helpers.odd_envs:StartsAProgram-v0", f"env.processes={processes}", "iterations=1",
        "collector.envs_per_worker=2", "buffer.fragments_per_iteration=4", f"run_dir={run_dir}",
    )  # fmt: skip
    assert run.wait() == 0
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_a_collector_that_plays_outlives_the_time_for_its_start(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.start_timeout_s=60", "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    collector = collector_of(run_dir)
    time.sleep(80.0)
    assert collector.is_running()
    run.send(signal.SIGTERM)
    run.wait()
    assert "another is started" not in run.output


def test_a_killed_worker_is_replaced_and_training_goes_on(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    collector = collector_of(run_dir)
    log = run_dir / "logs" / "collector-0.log"
    for number, find in enumerate((lambda: workers_of(collector)[0], lambda: workers_of(collector)[0].parent()), 2):
        find().kill()  # a worker; then the fork server
        run.wait_for(lambda number=number: log.read_text().count("the first fragments are sent") == number)
        before = rows(run_dir)
        run.wait_for(lambda before=before: rows(run_dir) > before + 5)
    assert collector.is_running()
    run.send(signal.SIGTERM)
    run.wait()
    assert "worker 0 ended with exit code -9" in log.read_text()
    assert "lost its workers and starts new ones: " in run.output
    assert "worker 0 ended with exit code -9" in run.output
    assert read_metrics(run_dir / "metrics.csv")[-1]["collector_restarts"] == "2"
    assert leaves_nothing(run_dir)


def test_when_the_trainer_is_killed_its_collectors_and_sockets_go_too_even_stopped_ones_and_its_run_goes_on(
    start, tmp_path
):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.spare=true", "iterations=100000", "checkpointing.every=3", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 4 and has_spare(run_dir))
    sockets = Path((run_dir / "join").read_text().removeprefix("ipc://")).parent
    assert sockets.is_dir()
    collector_of(run_dir).suspend()
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


def test_a_collector_ends_in_seconds_although_its_fork_server_is_stopped(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "iterations=100000", "collector.count=0", f"run_dir={run_dir}")
    collector = start(f"run={run_dir}", module="mineonline.collect")
    run.wait_for(lambda: rows(run_dir) > 1)
    server = workers_of(psutil.Process(collector.process.pid))[0].parent()
    server.suspend()
    wait_until(lambda: server.status() == psutil.STATUS_STOPPED)
    for program in (collector, run):
        program.send(signal.SIGTERM)
        program.wait()
    assert leaves_nothing(run_dir)


def test_a_killed_collector_leaves_no_temporary_folder(start, tmp_path):
    before = set(Path(tempfile.gettempdir()).iterdir())
    collector = start(f"run=ipc://{tmp_path}/join", module="mineonline.collect")
    collector.wait_for(lambda: "no answer from" in collector.output)
    assert set(Path(tempfile.gettempdir()).iterdir()) - before
    collector.process.kill()
    wait_until(lambda: not set(Path(tempfile.gettempdir()).iterdir()) - before)


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
    assert collector.output.count("starting 8 environments") == 1  # its workers play for the new trainer


@pytest.mark.slow
def test_when_the_last_collector_is_killed_the_terminal_says_so_and_how_to_start_one(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "collector.count=0", "iterations=100000", f"run_dir={run_dir}")
    run.wait_for((run_dir / "join").exists)
    collectors = [start(f"run={run_dir}", module="mineonline.collect") for _ in range(2)]
    for collector in collectors:
        run.wait_for(lambda collector=collector: "the first fragments are sent" in collector.output)
    collectors[0].process.kill()
    workers_of(psutil.Process(collectors[1].process.pid))[0].kill()  # it stays, and replaces its worker
    run.wait_for(lambda: "lost its workers and starts new ones" in run.output)
    run.wait_for(lambda: collectors[1].output.count("the first fragments are sent") == 2)
    assert "has left" not in run.output
    collectors[1].process.kill()
    run.wait_for(lambda: "WARNING: the last collector has left, and training waits. Start one" in run.output)
    assert run.output.count(f"python -m mineonline.collect run={run_dir}") >= 2  # the live view says it again
    another = start(f"run={run_dir}", module="mineonline.collect")
    run.wait_for(lambda: "WARNING: a collector is there again" in run.output)
    run.send(signal.SIGTERM)
    run.wait()
    another.process.kill()
    assert run.output.count("has left") == 1


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


def test_what_a_trainer_started_ends_with_it_under_nohup_too(start, tmp_path):
    """nohup has SIGHUP ignored, and all processes inherit that."""
    run_dir = tmp_path / "run"
    before = set(Path(tempfile.gettempdir()).glob("mineonline-*"))
    run = start(*QUICK, "iterations=100000", f"run_dir={run_dir}", under=("nohup",))
    run.wait_for(lambda: rows(run_dir) > 3)
    assert len(processes_of(run_dir)) >= 3
    run.send(signal.SIGHUP)  # a terminal that is closed ends nothing
    seen = rows(run_dir)
    run.wait_for(lambda: rows(run_dir) > seen + 3)
    run.process.kill()
    assert leaves_nothing(run_dir)
    assert not set(Path(tempfile.gettempdir()).glob("mineonline-*")) - before


def test_environments_that_fail_in_every_way_cost_their_own_episodes_only(start, tmp_path):
    run_dir = tmp_path / "run"
    run = start(*QUICK, "env.id=tests.helpers.odd_envs:Faulty-v0", "+env.kwargs.random=true", "env.step_timeout_s=0.5",
                "iterations=150", f"run_dir={run_dir}")  # fmt: skip
    assert run.wait() == 0, run.output
    assert not (run_dir / "logs" / "spare.log").exists()
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
