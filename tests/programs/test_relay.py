"""A relay between a trainer and the collectors of a node, in runs of the whole program."""

import signal

import psutil
import pytest

from mineonline.processes.sockets import listens
from mineonline.processes.supervisor import CONFIG_EXIT_CODE
from mineonline.run.joining import relay_file
from mineonline.run.metrics import read_metrics
from tests.helpers.programs import leaves_nothing, rows, wait_until
from tests.helpers.settings import QUICK

SETTINGS = [
    *QUICK, "collector.count=0", "network.host=127.0.0.1", "weights.dtype=bfloat16", "checkpointing.every=2",
]  # fmt: skip
PLAYS = "first fragments are sent"


def speaks_tcp(run):
    """Whether the process has connections to another one over tcp: the trainer's sockets are of that kind."""
    return any(c.raddr for c in psutil.Process(run.process.pid).net_connections("tcp"))


@pytest.fixture
def relayed(start, tmp_path):
    """A run folder, its trainer, relay and two collectors that play through the relay."""
    run_dir = tmp_path / "run"
    trainer = start(*SETTINGS, "iterations=1000000", f"run_dir={run_dir}")
    trainer.wait_for((run_dir / "join").exists)
    relay = start(f"run={run_dir}", module="mineonline.relay")
    relay.wait_for(relay_file(run_dir).exists)
    collectors = [start(f"run={run_dir}", module="mineonline.collect") for _ in range(2)]
    for collector in collectors:
        collector.wait_for(lambda collector=collector: PLAYS in collector.output)
    return run_dir, trainer, relay, collectors


def learns_from(run_dir, trainer, collectors):
    """Waits for new iterations with fragments of so many collectors."""
    before = rows(run_dir)
    trainer.wait_for(lambda: rows(run_dir) > before + 2)
    trainer.wait_for(lambda: read_metrics(run_dir / "metrics.csv")[-1]["collectors"] == str(collectors))


def test_collectors_play_through_the_relay_of_their_node_until_the_run_is_complete(relayed, start):
    run_dir, trainer, relay, collectors = relayed
    learns_from(run_dir, trainer, 2)
    assert [speaks_tcp(run) for run in (relay, *collectors)] == [True, False, False]
    trainer.send(signal.SIGTERM)
    trainer.wait()
    again = start(f"checkpoint={run_dir}", f"iterations={rows(run_dir) + 20}")
    assert [run.wait() for run in (again, relay, *collectors)] == [0, 0, 0, 0], relay.output
    assert relay.output.count("relays run") == 2
    assert not any(speak.count("lost") for speak in (relay.output, trainer.output, again.output))
    assert leaves_nothing(run_dir)
    assert not relay_file(run_dir).exists()


def test_collectors_go_on_without_a_relay_that_was_killed_and_use_the_next_one(relayed, start):
    run_dir, trainer, relay, collectors = relayed
    relay.kill()
    for collector in collectors:
        collector.wait_for(lambda collector=collector: speaks_tcp(collector))
    learns_from(run_dir, trainer, 2)
    another = start(f"run={run_dir}", module="mineonline.relay")
    for collector in collectors:
        collector.wait_for(lambda collector=collector: not speaks_tcp(collector))
    learns_from(run_dir, trainer, 2)
    second = start(f"run={run_dir}", module="mineonline.relay")
    assert second.wait() == CONFIG_EXIT_CODE
    assert "this node has a relay for this run already" in second.output
    another.send(signal.SIGTERM)
    assert another.wait() == 128 + signal.SIGTERM
    assert not relay_file(run_dir).exists()
    learns_from(run_dir, trainer, 2)
    for run in (trainer, *collectors):
        run.send(signal.SIGTERM)
        run.wait()
    assert leaves_nothing(run_dir)


def test_of_two_relays_that_wait_for_a_trainer_one_stays(start, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    relays = [start(f"run={run_dir}", module="mineonline.relay") for _ in range(2)]
    trainer = start(*SETTINGS, "iterations=1000000", f"run_dir={run_dir}")
    wait_until(lambda: any(relay.process.poll() is not None for relay in relays), lambda: trainer.output)
    (gone,) = (relay for relay in relays if relay.process.poll() is not None)
    (stays,) = (relay for relay in relays if relay is not gone)
    assert gone.wait() == CONFIG_EXIT_CODE
    assert gone.output.splitlines()[-1].startswith(f"error: {relay_file(run_dir)}: "), gone.output
    stays.wait_for(lambda: relay_file(run_dir).exists() and listens(relay_file(run_dir).read_text()))
    for run in (stays, trainer):
        run.send(signal.SIGTERM)
        run.wait()
    assert not relay_file(run_dir).exists()


def test_a_relay_needs_the_run_folder(start, tmp_path):
    relay = start("run=tcp://127.0.0.1:1", module="mineonline.relay")
    assert relay.wait() == CONFIG_EXIT_CODE
    assert relay.output == (
        "error: run=tcp://127.0.0.1:1: a relay needs the run folder, where collectors find it. Give that.\n"
    )


def test_a_relay_for_a_run_that_does_not_exist_says_so(start, tmp_path):
    relay = start(f"run={tmp_path}/nowhere", module="mineonline.relay")
    assert relay.wait() == CONFIG_EXIT_CODE
    assert relay.output == f"error: run={tmp_path}/nowhere: there is no such run folder.\n"
