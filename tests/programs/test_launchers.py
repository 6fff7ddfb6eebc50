"""Ranks that torchrun or Slurm starts, and ranks that never come."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.helpers.programs import leaves_nothing, rows, weights
from tests.helpers.settings import QUICK, RANKS, ROOT


@pytest.fixture
def torchrun(start):
    def begin(*arguments, options=("--nproc-per-node=2",)):
        return start(*options, "-m", "mineonline.train", *QUICK, *arguments, module="torch.distributed.run")

    return begin


def test_torchrun_starts_the_ranks_and_rank_0_chooses_their_folder(torchrun, tmp_path):
    compare = "{_target_: tests.helpers.compare_ranks.CompareRanks}"
    run = torchrun(*RANKS, "iterations=6", f"callbacks=[{compare}]")
    assert run.wait() == 0, run.output
    assert run.output.count("ranks identical: True, batches differ: True") == 6, run.output
    (run_dir,) = Path(tmp_path, "runs", "CartPole-v1").iterdir()
    assert {file.name for file in (run_dir / "logs").glob("trainer-*.log")} == {"trainer-0.log", "trainer-1.log"}
    assert (run_dir / "done").exists()
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_a_job_of_torchrun(torchrun, tmp_path):
    run_dir = tmp_path / "run"
    run = torchrun(*RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    ranks = {p.environ()["RANK"]: p for p in psutil.Process(run.process.pid).children()}
    assert ranks.keys() == {"0", "1"}
    ranks["1"].kill()
    assert run.wait() != 0
    assert leaves_nothing(run_dir)


def test_ranks_end_with_a_torchrun_that_is_killed(torchrun, tmp_path):
    run_dir = tmp_path / "run"
    run = torchrun(*RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    run.send(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert leaves_nothing(run_dir)


def test_torchrun_that_is_asked_to_stop_stops_its_ranks_after_the_same_iteration(torchrun, tmp_path):
    run_dir = tmp_path / "run"
    run = torchrun(*RANKS, "iterations=100000", f"run_dir={run_dir}")
    run.wait_for(lambda: rows(run_dir) > 3)
    run.send(signal.SIGTERM)
    assert run.wait() != 0
    assert leaves_nothing(run_dir)
    assert int(weights(run_dir)["policy.version"]) == rows(run_dir)
    assert not (run_dir / "done").exists()


def test_processes_that_do_not_fit_the_settings_are_one_error(torchrun):
    run = torchrun("trainer.accelerator=cpu")
    assert run.wait() != 0
    assert run.output.count("error: trainer.devices=1 on trainer.num_nodes=1 makes 1 trainer processes") == 1
    assert "Give trainer.devices=2 trainer.num_nodes=1" in run.output


def test_a_rank_does_not_wait_for_ever_for_the_others(start, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    run_dir = tmp_path / "run"
    two_nodes = ["trainer.num_nodes=2", "trainer.accelerator=cpu", "network.host=127.0.0.1"]
    run = start(*QUICK, *two_nodes, "network.ranks_timeout_s=2", f"run_dir={run_dir}")
    assert run.wait() == 1
    assert "error: rank 0 has waited 2 s for the other ranks (2 in all) to meet at 127.0.0.1:" in run.output
    assert leaves_nothing(run_dir)


@pytest.fixture
def two_nodes(torchrun):
    """Starts torchrun twice, as on two nodes, each with words of its own."""

    def begin(*words, own=((), ())):
        with socket.create_server(("127.0.0.1", 0)) as free:
            where = [f"--master-port={free.getsockname()[1]}", "--master-addr=127.0.0.1", "--nproc-per-node=1"]
        words = ["trainer.num_nodes=2", "trainer.accelerator=cpu", "network.host=auto", *words]
        return [torchrun(*words, *own[node], options=["--nnodes=2", f"--node-rank={node}", *where]) for node in (0, 1)]

    return begin


def test_two_nodes_train_on_different_fragments_and_stay_identical(two_nodes, tmp_path):
    compare = "callbacks=[{_target_: tests.helpers.compare_ranks.CompareRanks}]"
    first, second = two_nodes("iterations=6", compare)
    assert first.wait() == 0, first.output
    assert second.wait() == 0, second.output
    assert first.output.count("ranks identical: True, batches differ: True") == 6, first.output
    (run_dir,) = Path(tmp_path, "runs", "CartPole-v1").iterdir()
    assert (run_dir / "keys.json").stat().st_mode & 0o777 == 0o600
    assert leaves_nothing(run_dir)


@pytest.mark.slow
def test_nodes_that_are_given_other_settings_are_an_error(two_nodes, tmp_path):
    first, second = two_nodes(f"run_dir={tmp_path / 'run'}", own=(["seed=1"], ["seed=2"]))
    assert second.wait() != 0
    assert "error: rank 1 was started with other settings than rank 0: seed differ." in second.output
    assert first.wait() != 0
    assert leaves_nothing(tmp_path / "run")


def test_nodes_without_a_network_are_an_error_that_says_what_to_give(start):
    run = start(*QUICK, "trainer.num_nodes=2", "trainer.accelerator=cpu")
    assert run.wait() == 1
    assert "trainer.num_nodes=2: unix sockets do not reach other nodes. Give network.host=auto" in run.output


def test_a_dry_run_shows_what_a_job_of_slurm_would_run():
    job = {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_GPUS_ON_NODE": "8"}
    shown = subprocess.run(
        ["bash", f"{ROOT}/slurm/train.sh", "--dry-run", "seed=1"], text=True, capture_output=True, check=True,
        env={**os.environ, **job, "MINEONLINE_RUN": "apptainer exec --nv image.sif"},
    )  # fmt: skip
    train, relay, collect = shown.stdout.splitlines()
    assert " apptainer exec --nv image.sif python -m mineonline.train network.host=auto seed=1 " in train
    assert train.endswith(" trainer.num_nodes=2 trainer.devices=4 collector.count=0 ")
    assert " apptainer exec --nv image.sif python -m mineonline.collect " in collect
    assert " --nodes=2 --ntasks=2 --ntasks-per-node=1 " in relay
    assert " apptainer exec --nv image.sif python -m mineonline.relay " in relay
    assert shown.stderr.startswith("warning: 8 GPUs on a node, but 4 trainer processes"), shown.stderr
